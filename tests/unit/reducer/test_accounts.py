"""What a session took, added up round by round: the same as all at once, and each committed round is read once."""

from flask.testing import FlaskClient

from fedn.plan.session import SessionPlan
from fedn.protocol.rest import RoundView, account
from fedn.protocol.rounds import LedgerEntry, LedgerState, RoundKind, RoundState, Usage
from fedn.protocol.tasks import RoundName, UpdateMetadata
from tests.unit.reducer.parts import ADMIN_SECRET, Parts

HTML = {"Accept": "text/html,*/*;q=0.8"}
STREAM = {"Accept": "text/event-stream"}
SECURE = "https://localhost"
FUNNY = "<script>alert(1)"


def view(index: int, state: RoundState = RoundState.COMMITTED, kind: RoundKind = RoundKind.TRAIN) -> RoundView:
    """A round in which two clients took part, one of them after an attempt that failed."""
    ledger = tuple(
        LedgerEntry(
            client=client,
            combiner="c",
            task_id=f"{client}-{index}",
            state=LedgerState.UPDATED,
            metadata=UpdateMetadata(
                task_id=f"{client}-{index}",
                client=client,
                round=RoundName(session="s-0", index=index, attempt=0, epoch=1),
                num_examples=3,
                task_ms=40.0 + index,
            ),
            down_bytes=1000 + index,
            up_bytes=30 // number,
            busy_ms=50.0,
        )
        for number, client in enumerate(("eins", FUNNY), start=1)
    )
    spent = {"eins": Usage(tasks=1, down_bytes=7)} if index % 3 == 0 else {}
    return RoundView(
        session="s-0",
        index=index,
        attempt=len(spent),
        epoch=1,
        kind=kind,
        state=state,
        started_at=float(index),
        ended_at=index + 0.5,
        ledger=ledger,
        spent=spent,
    )


def test_round_by_round_is_all_at_once(parts: Parts) -> None:
    sessions, accounts = parts.sessions, parts.services.watching.accounts
    session = sessions.start(SessionPlan()).id
    assert accounts.of(session).closed() == account(session, [])
    histories = [
        [view(0, RoundState.RUNNING)],
        [view(0, RoundState.FAILED)],
        [view(0), view(1, RoundState.RUNNING), view(1 << 40, kind=RoundKind.INIT)],
        [view(0), view(1), view(2), view(3, RoundState.WAITING), view(1 << 40, kind=RoundKind.INIT)],
        [*(view(index) for index in range(250)), view(1 << 40, kind=RoundKind.INIT)],
    ]
    for rounds in histories:
        sessions.views_of_rounds = rounds
        assert accounts.of(session).closed() == account(session, rounds)


def test_what_was_committed_is_read_once(parts: Parts, monkeypatch) -> None:
    sessions, accounts = parts.sessions, parts.services.watching.accounts
    session = sessions.start(SessionPlan()).id
    sessions.views_of_rounds = [view(index) for index in range(500)]
    accounts.of(session)
    read: list[int] = []
    real = sessions.rounds
    monkeypatch.setattr(sessions, "rounds", lambda *given: read.append(len(real(*given))) or real(*given))
    sessions.views_of_rounds.append(view(500))
    assert accounts.of(session).closed().total.tasks == sum(2 + (index % 3 == 0) for index in range(501))
    assert sum(read) == 1


def test_the_page_says_who_caused_how_much(parts: Parts, client: FlaskClient) -> None:
    client.post("/login", data={"secret": ADMIN_SECRET}, headers=HTML, base_url=SECURE)
    assert "No session has been started" in client.get("/accounting", headers=HTML, base_url=SECURE).text
    parts.sessions.start(SessionPlan())
    parts.sessions.views_of_rounds = [view(index) for index in range(3)]
    text = client.get("/accounting", headers=HTML, base_url=SECURE).text
    assert "5.9 KiB" in text  # 2 x (1000 + 1001 + 1002) + 7 bytes
    assert "246 ms" in text  # 2 x (40 + 41 + 42)
    assert FUNNY not in text and "&lt;script&gt;alert(1)" in text
    with client.get("/accounting", headers=STREAM, base_url=SECURE, buffered=False) as stream:
        next(stream.response)
        assert b"5.9 KiB" in next(stream.response)
    assert text.index("eins") < text.index("&lt;script&gt;")  # the most traffic first
