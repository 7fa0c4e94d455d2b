"""What is kept beside a global model for the next round to go on from: state of the server optimizer, of the rule, …

Each part is an object of its own, named by its digest like models and kept beside them, so that a part that stays the
same is stored once. An index, which is an object too, names the parts of one model; a trail entry names the index. So
whoever goes on from a model, after a restart or a rollback, goes on from its parts, or from none.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from fedn.models.digest import Buffer, digest
from fedn.protocol.errors import IntegrityError
from fedn.protocol.names import check_digest, is_digest
from fedn.stores.base import ModelStore

OPTIMIZER = "optimizer"
"""Name of the server optimizer's part."""
COUNTED = "counted"
"""Name of the part that says which round counted each client last."""


@dataclass(frozen=True)
class StatePart:
    """An object that is kept beside a model."""

    object_id: str
    data: Buffer


States = Mapping[str, StatePart]
"""The parts that belong to one model, by name."""


def extra_part(extra: str) -> str:
    """Name of the part with a rule's extra state."""
    return f"extra/{extra}"


_OF_COMBINER = "combiner/"


def combiner_part(combiner: str) -> str:
    """Name of the part with the state of a combiner's optimizer."""
    return f"{_OF_COMBINER}{combiner}"


def of_combiners(states: States) -> dict[str, StatePart]:
    """Combiner name to the state of its optimizer."""
    return {name.removeprefix(_OF_COMBINER): part for name, part in states.items() if name.startswith(_OF_COMBINER)}


def state_part(data: Buffer, algorithm: str) -> StatePart:
    return StatePart(digest(data, algorithm), data)


def index_of(states: States, algorithm: str) -> StatePart:
    """The index of at least one part: a JSON object from their names to their digests."""
    names = {name: part.object_id for name, part in sorted(states.items())}
    return state_part(json.dumps(names, separators=(",", ":")).encode(), algorithm)


def read_index(store: ModelStore, state_id: str) -> dict[str, str]:
    """Digests of the parts by name. IntegrityError (`stored_object_damaged`); NotFound where it is not there."""
    try:
        names = json.loads(_read(store, state_id))
    except ValueError as error:
        raise _damaged(state_id) from error
    if not isinstance(names, dict) or not all(isinstance(one, str) and is_digest(one) for one in names.values()):
        raise _damaged(state_id)
    return names


def read_states(store: ModelStore, state_id: str) -> States:
    """The parts that an index names. IntegrityError (`stored_object_damaged`) where one is not what its digest says."""
    return {name: StatePart(part_id, _read(store, part_id)) for name, part_id in read_index(store, state_id).items()}


def _read(store: ModelStore, object_id: str) -> bytes:
    data = b"".join(store.read(object_id))
    if digest(data, check_digest(object_id)[0]) != object_id:
        raise _damaged(object_id)
    return data


def _damaged(object_id: str) -> IntegrityError:
    return IntegrityError(
        "stored_object_damaged",
        "an object in the model store is not what its digest says",
        fix="Restore the model store from a backup.",
        where={"object": object_id},
    )
