"""Who takes part, who does not, and why."""

from fedn.protocol.errors import Conflict
from fedn.protocol.rest import ClientView, EventView, RoundView
from fedn.protocol.rounds import LedgerEntry, LedgerState, Reason, RoundKind, RoundState
from fedn.reducer.pages.participation import answer, name_of_round, participation
from fedn.reducer.watching.visitors import Visitors


def client(name: str, *, attached: bool = True) -> ClientView:
    return ClientView(name=name, key_id="k", enrolled_at=1.0, last_seen=2.0, attached=attached, combiner="c")


def round_view(index: int, ledger: dict[str, tuple[LedgerState, str]], kind: RoundKind = RoundKind.TRAIN) -> RoundView:
    entries = tuple(
        LedgerEntry(client=name, state=state, reason=Reason(code="why", message=why, fix="Do this.") if why else None)
        for name, (state, why) in ledger.items()
    )
    return RoundView(
        session="s",
        index=index,
        attempt=0,
        epoch=1,
        kind=kind,
        state=RoundState.RUNNING,
        cohort=tuple(ledger),
        ledger=entries,
        started_at=float(index),
    )


def test_five_clients_were_started_and_each_has_its_answer() -> None:
    visitors = Visitors(clock=lambda: 5.0)
    visitors.turn_away("one", Conflict("name_taken", "another client has this name", fix="Choose another name."))
    fields = {"client": "three", "combiner": "c", "reason": "its process ended"}
    visitors.note_event(EventView(number=1, kind="client_detached", time=4.0, fields=fields))
    shown = round_view(
        0,
        {
            "one": (LedgerState.UPDATED, ""),
            "two": (LedgerState.REFUSED, "it has NaN"),
            "four": (LedgerState.NOT_SELECTED, "the plan asks for fewer clients than are attached"),
        },
    )
    clients = [client("four"), client("one"), client("three", attached=False), client("two")]
    lines = participation(clients, [shown], visitors.why_not, visitors.turned_away(), shown=shown)
    assert [(line.name, line.takes_part, line.why) for line in lines] == [
        ("two", False, "it has NaN"),
        ("one", False, "another client has this name"),
        ("four", False, "the plan asks for fewer clients than are attached"),
        ("three", False, "its process ended"),
        ("one", True, ""),
    ]
    assert answer(lines, shown, over=False) == "1 of 4 clients takes part in round 1; 1 is away, 1 was not let in."


def test_who_is_attached_after_the_round_began_is_told_so() -> None:
    shown = round_view(2, {"one": (LedgerState.TRAINING, "")})
    lines = participation([client("one"), client("new")], [shown], lambda name: None, shown=shown)
    assert {line.name: line.why for line in lines} == {"new": "it was attached after this round began", "one": ""}


def test_cells_say_what_became_of_a_client_round_by_round() -> None:
    rounds = [
        round_view(0, {"one": (LedgerState.UPDATED, "")}),
        round_view(1, {"one": (LedgerState.LATE, "too slow")}),
        round_view(2, {"two": (LedgerState.UPDATED, "")}),
    ]
    line = next(
        line
        for line in participation([client("one")], rounds, lambda name: None, shown=rounds[-1], columns=2)
        if line.name == "one"
    )
    assert [(cell.state, cell.why) for cell in line.cells] == [("late", "too slow"), ("no_round", "was not attached")]
    assert line.counts == {"updated": 1, "late": 1}


def test_the_answer_fits_every_number_of_clients() -> None:
    def said(clients: list[ClientView], shown: RoundView | None, *, over: bool = True) -> str:
        lines = participation(clients, [shown] if shown else [], lambda name: None, shown=shown)
        return answer(lines, shown, over=over)

    assert said([], None) == "No client has enrolled yet."
    assert said([client("a")], None) == "1 of 1 client is attached."
    assert said([client("a"), client("b", attached=False)], None) == "1 of 2 clients is attached."
    one = round_view(0, {"a": (LedgerState.UPDATED, "")})
    assert said([client("a")], one) == "The one client took part in round 1."
    both = round_view(4, {"a": (LedgerState.TRAINING, ""), "b": (LedgerState.TRAINING, "")})
    assert said([client("a"), client("b")], both, over=False) == "All 2 clients take part in round 5."
    last = round_view(5, {"a": (LedgerState.UPDATED, "")}, RoundKind.VALIDATE)
    assert said([client("a")], last) == "The one client took part in the round for the validation."


def test_rounds_have_names() -> None:
    assert [name_of_round(round_view(3, {}, kind)) for kind in RoundKind] == [
        "4",
        "validation",
        "first model",
        "predict",
    ]


def test_a_client_that_comes_back_is_no_longer_away_for_a_reason() -> None:
    visitors = Visitors()
    visitors.refuse("one", "combiners_full", "all places are taken")
    assert visitors.why_not("one") is not None
    visitors.note_event(EventView(number=1, kind="client_attached", time=1.0, fields={"client": "one"}))
    assert visitors.why_not("one") is None and visitors.turned_away() == []
    visitors.refuse("two", "combiners_full", "full")
    visitors.let_in("two")
    assert visitors.turned_away() == []


def test_strangers_are_bounded_in_number_and_length() -> None:
    visitors = Visitors()
    for number in range(10_050):
        visitors.refuse(f"{number}{'x' * 1000}", "code", "y" * 5000)
    kept = visitors.turned_away()
    assert len(kept) == 10_000 and len(kept[0].name) == 500 and len(kept[0].reason) == 500
