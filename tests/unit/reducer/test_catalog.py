import io
import pickle
from pathlib import Path

import numpy as np
import pytest

from fedn.models.digest import digest
from fedn.models.files import to_npz
from fedn.models.wire import encode
from fedn.plan.package import build_package
from fedn.plan.session import SessionPlan
from fedn.protocol.errors import Conflict, FednError, InvalidInput, LimitExceeded, NotFound
from fedn.protocol.rest import MAX_PAGE
from fedn.reducer.catalog import Catalog
from fedn.reducer.engine.states import index_of, read_states, state_part
from fedn.reducer.garbage import GarbageCollector
from fedn.reducer.uploads import Spool
from tests.unit.reducer.parts import Parts, make_parts

MODEL = {"w": np.arange(12, dtype=np.float32).reshape(3, 4), "steps": np.array(3, np.int64)}


@pytest.fixture
def catalog(parts: Parts) -> Catalog:
    return parts.services.catalog


@pytest.fixture
def package(tmp_path: Path) -> bytes:
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "fedn.yaml").write_text("name: digits\nhelper: sklearn\nlearner: learn:Digits\n")
    (folder / "learn.py").write_text("class Digits: ...\n")
    return build_package(folder)


def as_file(folder: Path, data: bytes) -> Path:
    path = folder / "upload"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("data", [bytes(encode(MODEL)), bytes(to_npz(MODEL))], ids=["safetensors", "npz"])
@pytest.mark.parametrize("from_file", [True, False])
def test_a_seed_becomes_the_global_model(
    parts: Parts, catalog: Catalog, tmp_path: Path, data: bytes, from_file: bool
) -> None:
    entry = catalog.add_seed_file(as_file(tmp_path, data)) if from_file else catalog.add_seed(data)
    stored = b"".join(parts.services.models.read(entry.model_id))
    assert stored == encode(MODEL)
    assert entry.model_id == digest(stored)
    assert parts.services.trail.head() == entry
    assert catalog.model_spec(entry.model_id).by_name["w"].shape == (3, 4)
    assert parts.services.events.latest(1)[0].kind == "model_seeded"


def test_the_same_seed_twice_is_one_entry(parts: Parts, catalog: Catalog) -> None:
    assert catalog.add_seed(bytes(encode(MODEL))) == catalog.add_seed(bytes(to_npz(MODEL)))
    assert len(parts.services.trail.entries()) == 1


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (pickle.dumps([1, 2]), "pickled_file"),
        (b"no model at all, but long enough", "bad_model"),
        (b"", "bad_model"),
        (bytes(encode({})), "bad_model_file"),
        (bytes(encode({"w": np.array([1.0, np.nan], np.float32)})), "seed_not_finite"),
        (bytes(to_npz({"w": np.array([np.inf])})), "seed_not_finite"),
    ],
    ids=["pickle", "rubbish", "empty", "no tensors", "nan", "inf"],
)
def test_what_is_no_good_model_leaves_nothing_behind(
    parts: Parts, catalog: Catalog, tmp_path: Path, data: bytes, code: str
) -> None:
    for attempt in (lambda: catalog.add_seed(data), lambda: catalog.add_seed_file(as_file(tmp_path, data))):
        with pytest.raises(InvalidInput, match=code):
            attempt()
    assert parts.services.trail.head() is None
    assert list(parts.services.models.objects()) == []


def test_a_package_is_kept_described_and_active(parts: Parts, catalog: Catalog, package: bytes) -> None:
    view = catalog.add_package(package)
    assert (view.name, view.helper, view.learner, view.active) == ("digits", "sklearn", "learn:Digits", True)
    assert b"".join(parts.services.models.read(view.package_id)) == package
    assert catalog.active() == view == catalog.package(view.package_id)
    assert catalog.add_package(package).uploaded_at == view.uploaded_at
    assert catalog.packages() == [view]
    catalog.activate(None)
    assert catalog.active() is None
    assert [found.active for found in catalog.packages()] == [False]
    with pytest.raises(NotFound, match="no_such_package"):
        catalog.activate("blake3:" + "0" * 64)


def test_the_choice_of_a_package_outlives_the_process(parts: Parts, catalog: Catalog, package: bytes) -> None:
    view = catalog.add_package(package)
    folder = parts.services.settings.data_dir
    parts.close()
    again = make_parts(folder)
    try:
        assert again.services.catalog.active() == view
    finally:
        again.close()


def test_an_unusable_package_is_refused_and_the_old_one_stays(catalog: Catalog, package: bytes) -> None:
    view = catalog.add_package(package)
    with pytest.raises(FednError):
        catalog.add_package(b"no archive")
    assert catalog.active() == view


# Removing what nothing names


@pytest.fixture
def garbage(parts: Parts) -> GarbageCollector:
    return parts.services.garbage


def store(parts: Parts, data: bytes) -> str:
    parts.services.models.put(digest(data), [data], len(data))
    return digest(data)


def test_only_what_nothing_names_is_removed(
    parts: Parts, catalog: Catalog, garbage: GarbageCollector, package: bytes
) -> None:
    seed = catalog.add_seed(bytes(encode(MODEL))).model_id
    kept = catalog.add_package(package).package_id
    prediction, orphan = store(parts, b"a prediction"), store(parts, b"a model of a round that failed")
    parts.state.put("predictions", "s1/eins", {"session": "s1", "client": "eins", "object_id": prediction})
    would = garbage.collect(0, dry_run=True)
    assert (would.removed, would.removed_bytes, would.kept) == ((orphan,), 30, 3)
    assert garbage.collect(0, dry_run=False).removed == (orphan,)
    assert {item.object_id for item in parts.services.models.objects()} == {seed, kept, prediction}


def test_what_is_kept_beside_a_model_is_named_through_its_index(
    parts: Parts, catalog: Catalog, garbage: GarbageCollector
) -> None:
    seed = catalog.add_seed(bytes(encode(MODEL))).model_id
    states = {name: state_part(name.encode(), "blake3") for name in ("optimizer", "combiner/c1")}
    index = index_of(states, "blake3")
    for part in (*states.values(), index):
        store(parts, bytes(part.data))
    parts.services.trail.append_round(
        session="s",
        round=0,
        model_id=seed,
        parent=seed,
        plan_digest="sha256:" + "0" * 64,
        combiner_models=(),
        metrics={},
        state_id=index.object_id,
    )
    orphan = store(parts, b"a state of a round that failed")
    assert garbage.collect(0, dry_run=False).removed == (orphan,)
    assert read_states(parts.services.models, index.object_id) == states
    # An index that is lost names nothing any more, and keeps nobody from clearing up.
    parts.services.models.delete(index.object_id)
    assert garbage.collect(0, dry_run=False).num_removed == 2


def test_young_objects_stay(parts: Parts, garbage: GarbageCollector) -> None:
    store(parts, b"just now")
    assert garbage.collect(3600, dry_run=False).num_removed == 0


def test_while_a_session_runs_only_old_objects_go(parts: Parts, garbage: GarbageCollector) -> None:
    parts.sessions.start(SessionPlan())
    with pytest.raises(Conflict, match="session_running"):
        garbage.collect(0, dry_run=False)
    assert garbage.collect(7200, dry_run=False).num_removed == 0


def test_everything_that_names_objects_is_looked_through(parts: Parts, garbage: GarbageCollector) -> None:
    for index in range(MAX_PAGE + 5):  # more than one part of a list
        parts.state.put("predictions", f"s/{index:05d}", {"object_id": "blake3:" + "0" * 64})
    last = store(parts, b"named by the last document")
    parts.state.put("predictions", "s/99999", {"object_id": last})
    assert garbage.collect(0, dry_run=False).num_removed == 0


# Receiving uploads


def test_an_upload_beyond_the_limit_is_refused_and_removed(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    with (
        pytest.raises(LimitExceeded, match="upload_too_large"),
        spool.received(io.BytesIO(b"x" * 11), max_bytes=10, what="model"),
    ):
        pass
    with spool.received(io.BytesIO(b"x" * 10), max_bytes=10, what="model") as path:
        assert path.read_bytes() == b"x" * 10
    assert list((tmp_path / "spool").iterdir()) == []


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "model-half").write_bytes(b"half")
    Spool(tmp_path / "spool")
    assert list((tmp_path / "spool").iterdir()) == []
