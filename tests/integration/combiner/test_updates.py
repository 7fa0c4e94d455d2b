"""A combiner and its update store: looked at when it starts, measured, and no reason not to start."""

import asyncio
import contextlib
import logging

import pytest

from fedn.combiner.main import forget_updates
from fedn.models.pieces import Pieces
from fedn.network.identity import Identity
from fedn.network.tokens import Role
from fedn.plan.settings import CombinerSettings, UpdateStoreSettings
from fedn.protocol.errors import Conflict, InvalidInput
from fedn.stores.open import open_update_store
from fedn.stores.updates.base import UpdateFacts
from fedn.stores.updates.store import UpdateStore
from tests.support.servers import free_port
from tests.support.wire import FEDERATION, Trust, make_combiner


def facts(client: str) -> UpdateFacts:
    return UpdateFacts(
        session="s", client=client, round_index=0, update_id="u", base_model_id="b", num_examples=1, weight=1.0
    )


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
        store.insert(facts(client), Pieces.of(b"0123456789"))
    store.close()
    found = measured_at_the_start(trust, tmp_path / "data", updates)
    assert found["fedn_combiner_kept_updates"] == 2
    assert found["fedn_combiner_kept_updates_bytes"] == 20


def test_all_that_a_stopped_combiner_keeps_can_be_removed(trust: Trust, tmp_path, redis_url: str) -> None:
    settings = CombinerSettings(
        name="c9",
        data_dir=tmp_path,
        join="fedn1.x",
        updates=UpdateStoreSettings(kind="redis", url=redis_url),
    )
    with pytest.raises(InvalidInput) as caught:
        forget_updates(settings)
    assert caught.value.code == "nothing_kept"  # it never enrolled
    with Identity(tmp_path, "c9", Role.COMBINER) as identity:
        signed = trust.authority.sign(identity.csr(), name="c9", role=Role.COMBINER, hosts=[], valid_days=2)
        identity.save_enrolment(
            federation=FEDERATION, certificate=signed, ca=trust.ca, token_key=trust.issuer.public_key_pem
        )

    def store_of(combiner: str) -> UpdateStore:
        store = open_update_store(settings.updates, federation=FEDERATION, combiner=combiner)
        assert store is not None
        return store

    for combiner in ("c9", "c10"):
        with contextlib.closing(store_of(combiner)) as store:
            store.insert(facts("a"), Pieces.of(b"0123456789"))
    with Identity(tmp_path, "c9", Role.COMBINER), pytest.raises(Conflict, match="another process"):
        forget_updates(settings)
    assert forget_updates(settings) == 1
    with contextlib.closing(store_of("c9")) as mine, contextlib.closing(store_of("c10")) as others:
        assert (mine.sessions(), others.sessions()) == ([], ["s"])
        others.expunge()
