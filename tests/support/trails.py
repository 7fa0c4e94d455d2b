"""Trail entries for tests, sealed without a real key."""

from fedn.protocol.rounds import CombinerModel
from fedn.protocol.trail import GENESIS, EntryKind, TrailEntry, seal

MODEL = "blake3:" + "a" * 64


def make_entry(
    index: int,
    *,
    federation: str = "fed",
    kind: EntryKind = EntryKind.ROUND,
    session: str = "s1",
    round_index: int | None = None,
    previous: str = GENESIS,
    metrics: dict[str, float] | None = None,
    combiner_models: tuple[CombinerModel, ...] = (),
    epoch: int = 1,
) -> TrailEntry:
    """An entry with a right hash and a signature that is none. `round_index` is `index` where it is not given."""
    is_round = kind is EntryKind.ROUND
    entry = TrailEntry(
        federation=federation,
        index=index,
        kind=kind,
        session=session if is_round else "",
        round=(index if round_index is None else round_index) if is_round else None,
        epoch=epoch,
        model_id=MODEL,
        parent=MODEL if index else "",
        combiner_models=combiner_models,
        metrics=metrics or {},
        time=1_700_000_000.1 + index,
        previous=previous,
    )
    return seal(entry, "sha256:" + "0" * 64, lambda data: data[:8])


def make_chain(length: int, federation: str = "fed") -> list[TrailEntry]:
    """A seed and rounds after it, each pointing to the one before."""
    chain: list[TrailEntry] = []
    for index in range(length):
        kind = EntryKind.ROUND if index else EntryKind.SEED
        previous = chain[-1].hash if chain else GENESIS
        chain.append(make_entry(index, federation=federation, kind=kind, previous=previous, metrics={"loss": 0.1 / 3}))
    return chain
