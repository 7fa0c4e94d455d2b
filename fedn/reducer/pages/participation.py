"""Who takes part, who does not, and why: what the pages say of each client. Pure."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from fedn.protocol.rest import ClientView, RoundAccount, RoundStatistics, RoundView
from fedn.protocol.rounds import LedgerEntry, LedgerState, RoundKind
from fedn.reducer.watching.visitors import Turned

NAME_TAKEN = "name_taken"
_BAD = frozenset({LedgerState.LATE, LedgerState.REFUSED, LedgerState.FAILED, LedgerState.DISCONNECTED})


@dataclass(frozen=True)
class Cell:
    """What became of a client in one round."""

    round: RoundView
    state: str
    """Of the ledger; `no_round` where the ledger does not name it."""
    why: str = ""


@dataclass(frozen=True)
class Participation:
    """One client, as a line of the page shows it."""

    name: str
    state: str
    """attached, away or turned_away."""
    combiner: str = ""
    since: float = 0.0
    last_seen: float = 0.0
    takes_part: bool = False
    """In the round that is shown: asked, and not lost yet."""
    latest: LedgerEntry | None = None
    """In that round."""
    why: str = ""
    """Why it does not take part; empty where it does."""
    fix: str = ""
    cells: tuple[Cell, ...] = ()
    counts: Counter[str] = field(default_factory=Counter)
    """Ledger state to rounds that ended so for it."""


def name_of_round(view: RoundView | RoundAccount | RoundStatistics) -> str:
    """`3`, or what a round is for that makes no model."""
    match view.kind:
        case RoundKind.TRAIN:
            return str(view.index + 1)
        case RoundKind.INIT:
            return "first model"
        case RoundKind.VALIDATE:
            return "validation"
        case _:
            return str(view.kind)


def participation(
    clients: Sequence[ClientView],
    rounds: Sequence[RoundView],
    why_not: Callable[[str], Turned | None],
    turned_away: Iterable[Turned] = (),
    *,
    shown: RoundView | None,
    columns: int = 12,
) -> list[Participation]:
    """A line for each client: those of whom something is wrong first, then by name.

    Args:
        rounds: in order; the last `columns` become cells.
        turned_away: who was not let in; those that are no client of ours get lines of their own.
        shown: the round that the state now is about: the running or the latest one; None: there was none yet.
    """
    ledgers = {id(view): {entry.client: entry for entry in view.ledger} for view in rounds}
    if shown is not None:
        ledgers.setdefault(id(shown), {entry.client: entry for entry in shown.ledger})
    lines = []
    for client in clients:
        entries = [(view, ledgers[id(view)].get(client.name)) for view in rounds]
        latest = ledgers[id(shown)].get(client.name) if shown is not None else None
        why, fix = _why(client, latest, shown, why_not(client.name))
        lines.append(
            Participation(
                name=client.name,
                state="attached" if client.attached else "away",
                combiner=client.combiner,
                since=client.since,
                last_seen=client.last_seen,
                takes_part=not why,
                latest=latest,
                why=why,
                fix=fix,
                cells=tuple(_cell(view, entry) for view, entry in entries[-columns:]),
                counts=Counter(str(entry.state) for _, entry in entries if entry is not None),
            )
        )
    known = {client.name for client in clients}
    for turned in turned_away:
        # Two clients of one name, and the second is no client of ours: a copy of the first one, as a rule.
        if turned.role == "client" and (turned.name not in known or turned.code == NAME_TAKEN):
            lines.append(
                Participation(turned.name, "turned_away", last_seen=turned.time, why=turned.reason, fix=turned.fix)
            )
    return sorted(lines, key=lambda line: (_rank(line), line.name))


def _rank(line: Participation) -> int:
    """What needs a look comes first."""
    if line.latest is not None and line.latest.state in _BAD:
        return 0
    if line.state == "turned_away":
        return 1
    return 2 if line.why else 3


def _cell(view: RoundView, entry: LedgerEntry | None) -> Cell:
    if entry is None:
        return Cell(view, "no_round", "was not attached")
    return Cell(view, str(entry.state), entry.reason.message if entry.reason else "")


def _why(
    client: ClientView, latest: LedgerEntry | None, shown: RoundView | None, turned: Turned | None
) -> tuple[str, str]:
    """(why a client does not take part, what to do about it)."""
    if latest is not None and latest.state in _BAD:
        reason = latest.reason
        return (reason.message, reason.fix) if reason else (f"its update is {latest.state}", "")
    if not client.attached:
        if turned is not None and turned.code != NAME_TAKEN:
            return turned.reason, turned.fix or "See the client's log."
        return "it is not attached to a combiner", "Start it: fedn client start. Its log says what keeps it away."
    if latest is not None and latest.state is LedgerState.NOT_SELECTED:
        reason = latest.reason
        return (reason.message if reason else "it was not selected for this round"), (reason.fix if reason else "")
    if latest is None and shown is not None:
        return "it was attached after this round began", "It can be selected for the next one."
    return "", ""


def answer(lines: Sequence[Participation], shown: RoundView | None, *, over: bool) -> str:
    """The first question of an operator, answered in one or two sentences.

    Args:
        over: the round has ended.
    """
    if not lines:
        return "No client has enrolled yet."
    enrolled = [line for line in lines if line.state != "turned_away"]
    away = sum(line.state == "away" for line in enrolled)
    turned = len(lines) - len(enrolled)
    taking = sum(line.takes_part for line in enrolled)
    place = ""
    if shown is not None:
        number = name_of_round(shown)
        place = f"in round {number}" if shown.kind is RoundKind.TRAIN else f"in the round for the {number}"
    if shown is None:
        text = f"{len(enrolled) - away} of {_clients(len(enrolled))} {_are(len(enrolled) - away)} attached"
    elif taking == len(enrolled):
        verb = "took" if over else "takes" if taking == 1 else "take"
        text = (
            f"{'All' if taking > 1 else 'The'} {_clients(taking) if taking > 1 else 'one client'} {verb} part {place}"
        )
    else:
        verb = "took" if over else "takes" if taking == 1 else "take"
        text = f"{taking} of {_clients(len(enrolled))} {verb} part {place}"
    more = [f"{away} {_are(away)} away"] if away and shown is not None else []
    more += [f"{turned} {'was' if turned == 1 else 'were'} not let in"] if turned else []
    return f"{text}; {', '.join(more)}." if more else f"{text}."


def _clients(number: int) -> str:
    return f"{number} client" if number == 1 else f"{number} clients"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
