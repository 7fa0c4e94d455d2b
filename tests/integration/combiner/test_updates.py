"""A combiner and its update store: looked at when it starts, measured, and no reason not to start."""

import asyncio
import logging

import pytest

from fedn.models.pieces import Pieces
from fedn.plan.settings import UpdateStoreSettings
from fedn.stores.open import open_update_store
from fedn.stores.updates.base import UpdateFacts
from tests.support.servers import free_port
from tests.support.wire import FEDERATION, Trust, make_combiner


def measured_at_the_start(trust: Trust, folder, updates: UpdateStoreSettings) -> dict[str, float]:
    """What a combiner measures once it has looked at its store."""

    async def scene() -> dict[str, float]:
        async with make_combiner(trust, folder, updates=updates) as combiner:
            await combiner._looking.wait()
            found = combiner.metrics.registry.collect()
            return {sample.name: sample.value for metric in found for sample in metric.samples}

    return asyncio.run(scene())


def test_a_store_that_is_away_is_told_at_the_start_and_keeps_nobody_from_starting(
    trust: Trust, tmp_path, caplog: pytest.LogCaptureFixture
) -> None:
    updates = UpdateStoreSettings(kind="redis", url=f"redis://localhost:{free_port()}/0", password="not-to-be-seen")
    with caplog.at_level(logging.WARNING, "fedn.combiner.combiner"):
        assert measured_at_the_start(trust, tmp_path, updates)["fedn_combiner_kept_updates"] == 0
    (line,) = [record.getMessage() for record in caplog.records if "update store" in record.getMessage()]
    assert "store_unavailable" in line and "not-to-be-seen" not in caplog.text


def test_what_is_kept_is_measured_from_the_start(trust: Trust, tmp_path) -> None:
    updates = UpdateStoreSettings(kind="files", path=tmp_path / "kept")
    store = open_update_store(updates, federation=FEDERATION, combiner="c1")
    assert store is not None
    for client in "ab":
        facts = UpdateFacts(
            session="s", client=client, round_index=0, update_id="u", base_model_id="b", num_examples=1, weight=1.0
        )
        store.insert(facts, Pieces.of(b"0123456789"))
    store.close()
    found = measured_at_the_start(trust, tmp_path / "data", updates)
    assert found["fedn_combiner_kept_updates"] == 2
    assert found["fedn_combiner_kept_updates_bytes"] == 20
