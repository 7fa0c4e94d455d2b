"""A global model together with the extra state of the plan's rule, as the clients of the next round are sent it.

Not here: what extra state is, and how a round moves it on (fedn.aggregation.extra).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedn.aggregation.base import Rule
from fedn.aggregation.combine import does_not_fit
from fedn.aggregation.extra import advance_extra, extra_specs, fresh_extras, sections_of
from fedn.models.digest import Buffer, Hasher
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec, read_spec
from fedn.network.frames import CHUNK_BYTES, encode_piece
from fedn.protocol.rounds import LedgerEntry, LedgerState
from fedn.protocol.tasks import Section, Sections, TaskKind
from fedn.reducer.engine.objects import SharedObject
from fedn.reducer.engine.part import PartResult
from fedn.reducer.engine.states import COUNTED, StatePart, States, extra_part, state_part


@dataclass(frozen=True)
class Carrier:
    """See the module."""

    shared: SharedObject
    """The model's bytes, and those of the extra state behind them."""
    sections: Sections
    """What follows the model in there."""
    counted: Mapping[str, int]
    """Client to the index of the session's last round that counted it."""


@dataclass(frozen=True)
class Returned:
    """What a combiner returned as one object, taken apart."""

    model: Pieces
    means: Mapping[str, Pieces]
    """Of its clients' changes of the extra state, by name."""
    optimizer_state: Pieces
    """After its optimizer's step; empty where there is none."""


def carry(model: SharedObject, rule: Rule, states: States, algorithm: str) -> Carrier:
    """Puts extra state behind a model; the pieces of the model's bytes are shared with it, not copied.

    Args:
        states: as `fresh_states` or `states_after` made them.
        algorithm: of the digest that names it.
    """
    hasher, pieces, size_bytes = Hasher(algorithm), list(model.pieces), model.size_bytes
    for data in model.data():
        hasher.update(data)
    sections = []
    for extra in rule.extras:
        state = memoryview(states[extra_part(extra.name)].data)
        sections.append(Section(name=extra.name, size_bytes=len(state)))
        hasher.update(state)
        for at in range(0, len(state), CHUNK_BYTES):
            pieces.append(encode_piece(size_bytes + at, state[at : at + CHUNK_BYTES]))
        size_bytes += len(state)
    shared = SharedObject(hasher.digest(), model.kind, size_bytes, tuple(pieces))
    return Carrier(shared, tuple(sections), json.loads(bytes(states[COUNTED].data)))


def fresh_states(rule: Rule, base: ModelSpec, algorithm: str) -> dict[str, StatePart]:
    """What a session begins with whose rule has extra state."""
    return _states(fresh_extras(rule, base), {}, algorithm)


def states_after(
    rule: Rule,
    base: ModelSpec,
    before: States,
    parts: Sequence[tuple[PartResult, Returned]],
    round_index: int,
    population: int,
    algorithm: str,
) -> dict[str, StatePart]:
    """What a round leaves of the extra state that it began with.

    Args:
        base: of the model that the round started from.
        parts: of each combiner with a model, its result, and what it returned.
        population: clients that could have taken part.

    Raises:
        InvalidInput: as `advance_extra`.
    """
    made: dict[str, Buffer] = {}
    for extra in rule.extras:
        means = [(returned.means[extra.name], len(part.model.contributions)) for part, returned in parts]
        made[extra.name] = advance_extra(extra, base, before[extra_part(extra.name)].data, means, population)
    counted = dict(json.loads(bytes(before[COUNTED].data)))
    counted |= {one.client: round_index for part, _ in parts for one in part.model.contributions}
    return _states(made, counted, algorithm)


def take_apart(rule: Rule, base: ModelSpec, model_bytes: int, returned: Pieces) -> Returned:
    """What a combiner made.

    Args:
        model_bytes: of each combiner model of the round.

    Raises:
        InvalidInput: (`bad_model`, `combiner_model_does_not_fit`) it is too small, or what follows is no state.
    """
    sizes = {name: spec.size_bytes for name, spec in extra_specs(rule, base).items()}
    rest, means = sections_of(returned, sizes)
    if len(rest) < model_bytes:
        raise does_not_fit("A combiner model", f"it has {len(rest)} bytes instead of {model_bytes}")
    state = rest.part(model_bytes, len(rest))
    if len(state):
        read_spec(state.copy())
    return Returned(rest.part(0, model_bytes), means, state)


def population(ledger: Sequence[LedgerEntry], kinds: Mapping[str, TaskKind]) -> int:
    """How many clients a training round chose its cohort from, N: those that were asked to train, or could have been.

    Args:
        kinds: of the tasks, by client.
    """
    return sum(
        entry.reason is not None and entry.reason.code == "not_in_cohort"
        if entry.state is LedgerState.NOT_SELECTED
        else kinds.get(entry.client) is TaskKind.TRAIN
        for entry in ledger
    )


def _states(extras: Mapping[str, Buffer], counted: Mapping[str, int], algorithm: str) -> dict[str, StatePart]:
    parts = {extra_part(name): state_part(data, algorithm) for name, data in extras.items()}
    told = json.dumps(dict(sorted(counted.items())), separators=(",", ":")).encode()
    return {**parts, COUNTED: state_part(told, algorithm)}
