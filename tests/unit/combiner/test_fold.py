"""Updates become one model outside the loop: in batches, in order, and never half."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from fedn.aggregation.fedavg import FedAvg
from fedn.aggregation.scaling.num_training_examples import NumTrainingExamples
from fedn.combiner.buffers import MemoryStorage
from fedn.combiner.fold import Fold, Folded
from fedn.combiner.objects import cut
from fedn.combiner.totals import Arrived, SummedTotal
from fedn.models.digest import digest
from fedn.models.wire import ModelSpec, decode, encode, read_spec
from fedn.network.generated import common_pb2 as wire
from fedn.protocol.errors import InvalidInput
from fedn.protocol.tasks import RoundName, UpdateMetadata
from tests.unit.combiner.waiting import Changes

NAME = RoundName(session="s", index=0, attempt=0, epoch=0)


def model(*values: float) -> bytes:
    return bytes(encode({"w": np.array(values, np.float32)}))


BASE = model(10.0, 10.0)


class Setting:
    """A fold, and what it told."""

    def __init__(self, rule: FedAvg, executor: ThreadPoolExecutor, base: bytes) -> None:
        self.folded: list[Folded] = []
        self.crashes: list[BaseException] = []
        self.credits: list[int] = []
        self.changes = Changes()
        stored = cut(wire.OBJECT_KIND_MODEL, [memoryview(base)], "blake3")
        self.fold = Fold(
            SummedTotal(rule, "float64", stored, read_spec(base)),
            len(base),
            executor,
            self._on_folded,
            self._on_crash,
            weight_of=NumTrainingExamples().weight_of,
        )

    def _on_folded(self, folded: Folded) -> None:
        self.folded.append(folded)
        self.changes.note()

    def _on_crash(self, error: BaseException) -> None:
        self.crashes.append(error)
        self.changes.note()

    def put(self, client: str, data: bytes, num_examples: int, form: str = "model") -> None:
        storage = MemoryStorage(len(data), self.credits.append)
        storage.write(0, memoryview(data))
        metadata = UpdateMetadata(task_id=client, client=client, round=NAME, num_examples=num_examples, form=form)
        self.fold.put(Arrived(client, client, digest(data), len(data), metadata, read_spec(data), storage))


def run(body: Callable[[Setting], Coroutine[Any, Any, None]], rule: FedAvg | None = None, base: bytes = BASE) -> None:
    async def scene() -> None:
        with ThreadPoolExecutor(2) as executor:
            await body(Setting(rule or FedAvg(), executor, base))

    asyncio.run(scene())


def test_the_sealed_model_is_the_weighted_mean_of_models_and_deltas() -> None:
    async def body(setting: Setting) -> None:
        setting.put("a", model(1.0, 2.0), 1)
        setting.put("b", model(-4.0, 0.0), 2, form="delta")
        setting.put("c", model(3.0, 4.0), 1)
        stored, weight, fold_ms = await setting.fold.seal()
        assert stored is not None and weight == 4.0 and fold_ms > 0
        np.testing.assert_array_equal(
            decode(stored.bytes_in_pieces().copy())["w"], [(1 + 2 * 6 + 3) / 4, (2 + 2 * 10 + 4) / 4]
        )
        assert stored.object_id == digest(stored.bytes_in_pieces().copy())
        assert [folded.arrived.client for folded in setting.folded] == ["a", "b", "c"]
        assert [folded.weight for folded in setting.folded] == [1.0, 2.0, 1.0]
        assert len(setting.credits) == 3

    run(body)


def test_no_update_means_no_model() -> None:
    async def body(setting: Setting) -> None:
        assert (await setting.fold.seal())[:2] == (None, 0.0)

    run(body)


def test_an_update_that_the_rule_refuses_is_named_and_the_others_count() -> None:
    async def body(setting: Setting) -> None:
        setting.put("a", model(1.0, 1.0), 1)
        setting.put("misfit", model(1.0, 2.0, 3.0), 1)
        setting.put("b", model(3.0, 3.0), 1)
        stored, weight, _ = await setting.fold.seal()
        assert stored is not None and weight == 2.0
        refusals = {folded.arrived.client: folded.error for folded in setting.folded}
        assert refusals["a"] is None and refusals["b"] is None
        misfit = refusals["misfit"]
        assert misfit is not None and misfit.code == "update_does_not_fit"

    run(body)


def test_a_mean_that_is_not_finite_is_an_error_and_no_model() -> None:
    async def body(setting: Setting) -> None:
        setting.put("a", model(float(np.finfo(np.float32).max), 0.0), 1, form="delta")
        setting.put("b", model(float(np.finfo(np.float32).max), 0.0), 1)
        with pytest.raises(InvalidInput, match="sum_overflow"):
            await setting.fold.seal()

    run(body, base=model(float(np.finfo(np.float32).max), 0.0))


class Broken(FedAvg):
    """A rule whose sum fails in a way that nobody foresaw."""

    def start(self, base: ModelSpec, sum_dtype: str = "float64", base_model: Any = None) -> Any:
        raise ZeroDivisionError("in the rule")


def test_a_crash_in_the_sum_is_told_and_all_memory_comes_back() -> None:
    async def body(setting: Setting) -> None:
        for client in "abc":
            setting.put(client, model(1.0, 1.0), 1)
        await setting.changes.until(lambda: setting.crashes)
        assert isinstance(setting.crashes[0], ZeroDivisionError)
        await setting.fold.abandon()
        assert len(setting.credits) == 3 and setting.folded == []

    run(body, Broken())


def test_what_waits_is_thrown_away_when_the_round_is() -> None:
    async def body(setting: Setting) -> None:
        for client in "abc":
            setting.put(client, model(1.0, 1.0), 1)
        await setting.fold.abandon()
        assert len(setting.credits) == 3

    run(body)
