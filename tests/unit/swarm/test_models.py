"""Models of a process: held once, each receiver verifies for itself, a keeper that fails is replaced."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedn.models.digest import digest
from fedn.models.wire import encode
from fedn.protocol.errors import IntegrityError, InvalidInput
from fedn.swarm import models as module
from fedn.swarm.models import Receipt, SharedModels


def model(value: float) -> bytes:
    return bytes(encode({"w": np.full(100, value, np.float32)}))


A, B, C, D = (model(value) for value in (1.0, 2.0, 3.0, 4.0))


def on_loop(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(body())


def receipt(models: SharedModels, content: bytes) -> Receipt:
    object_id = digest(content)
    return Receipt(object_id, len(content), models.keep(object_id, len(content)))


def feed(one: Receipt, content: bytes, size: int = 64) -> bool:
    whole = False
    for start in range(0, len(content), size):
        whole = one.take(start, memoryview(content)[start : start + size])
    return whole


def test_of_those_that_receive_at_once_one_keeps_and_all_verify() -> None:
    async def run() -> None:
        models = SharedModels()
        first, second = receipt(models, A), receipt(models, A)
        assert first.keeper is not None and second.keeper is None
        assert feed(second, A)  # verified, and kept by nobody yet
        assert models.get(digest(A)) is None
        waiting = asyncio.create_task(models.wait(digest(A)))
        await asyncio.sleep(0)
        assert feed(first, A)
        found = await waiting
        assert found is not None and bytes(found.buffer) == A
        assert receipt(models, A).keeper is None

    on_loop(run)


def test_a_keeper_that_gives_up_lets_another_keep() -> None:
    async def run() -> None:
        models = SharedModels()
        first = receipt(models, A)
        first.take(0, memoryview(A)[:64])
        waiting = asyncio.create_task(models.wait(digest(A)))
        await asyncio.sleep(0)
        first.drop()
        assert await waiting is None
        second = receipt(models, A)
        assert second.keeper is not None and feed(second, A)
        assert digest(A) in models

    on_loop(run)


def test_damaged_bytes_are_noticed_by_whoever_gets_them() -> None:
    async def run() -> None:
        models = SharedModels()
        keeper, other = receipt(models, A), receipt(models, A)
        damaged = A[:-1] + bytes([A[-1] ^ 1])
        for one in (keeper, other):
            with pytest.raises(IntegrityError, match="something else"):
                feed(one, damaged)
        assert models.get(digest(A)) is None
        assert models.keep(digest(A), len(A)) is not None

    on_loop(run)


def test_pieces_out_of_step_end_the_stream() -> None:
    async def run() -> None:
        one = Receipt(digest(A), len(A), None)
        one.take(0, memoryview(A)[:10])
        for offset, data in ((20, A[20:30]), (10, A)):
            with pytest.raises(InvalidInput, match="goes on at 10"):
                one.take(offset, memoryview(data))

    on_loop(run)


def test_bytes_that_are_no_model_are_not_kept() -> None:
    async def run() -> None:
        models = SharedModels()
        with pytest.raises(InvalidInput, match="safetensors"):
            feed(
                receipt(models, b"no model at all, though of the right digest"),
                b"no model at all, though of the right digest",
            )
        assert not models.ids

    on_loop(run)


def test_only_the_newest_models_stay_but_what_is_worked_on_stays_with_its_worker() -> None:
    async def run() -> None:
        models = SharedModels(kept=2)
        feed(receipt(models, A), A)
        worked_on = models.get(digest(A))
        for content in (B, C):
            feed(receipt(models, content), content)
        assert models.ids == (digest(B), digest(C))
        models.get(digest(B))
        feed(receipt(models, D), D)
        assert models.ids == (digest(B), digest(D))
        assert worked_on is not None and bytes(worked_on.buffer) == A

    on_loop(run)


def test_large_models_lie_in_files_without_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IN_MEMORY_BYTES", 100)

    async def run() -> None:
        models = SharedModels(tmp_path)
        feed(receipt(models, A), A)
        found = models.get(digest(A))
        assert found is not None and not isinstance(found.buffer, bytearray)
        assert found.buffer[:] == A
        assert os.listdir(tmp_path) == []

    on_loop(run)
