"""The page that says where a session's time went: the same numbers as REST's, and nothing of a client's name runs."""

from collections.abc import Sequence

from flask.testing import FlaskClient

from fedn.plan.session import SessionPlan
from fedn.protocol.rest import RoundView, session_statistics
from fedn.protocol.rounds import CombinerModel, Contribution, LedgerEntry, LedgerState, RoundKind, RoundState
from fedn.protocol.tasks import RoundName, UpdateMetadata
from tests.unit.reducer.parts import ADMIN_SECRET, Parts

HTML = {"Accept": "text/html,*/*;q=0.8"}
SECURE = "https://localhost"
FUNNY = "<script>alert(1)</script>"


def view(index: int, clients: Sequence[str] = ("slow", FUNNY), state: RoundState = RoundState.COMMITTED) -> RoundView:
    ledger = []
    for place, client in enumerate(clients):
        told = UpdateMetadata(
            task_id="t",
            client=client,
            round=RoundName(session="s-0", index=index, attempt=0, epoch=1),
            num_steps=5,
            train_ms=7000.0 / (place + 1),
            validate_ms=111.0,
            validation={"accuracy": 0.625},
        )
        ledger.append(
            LedgerEntry(
                client=client,
                combiner="c1",
                task_id=client,
                state=LedgerState.UPDATED,
                metadata=told,
                sent_at=1000.0 + index + 0.25,
                busy_ms=8000.0 / (place + 1),
                updated_at=1010.0 + index,
            )
        )
    parts = tuple(Contribution(client=client, update_id="u", num_examples=1, weight=1.0) for client in clients)
    return RoundView(
        session="s-0",
        index=index,
        attempt=0,
        epoch=1,
        kind=RoundKind.TRAIN,
        state=state,
        cohort=tuple(clients),
        ledger=tuple(ledger),
        combiner_models=(CombinerModel(combiner="c1", model_id="m", weight=2.0, contributions=parts, fold_ms=30.0),),
        times_ms={"training": 8000.0, "aggregation": 12.0, "commit": 4.0, "total": 8100.0},
        started_at=1000.0 + index,
        ended_at=1008.1 + index,
    )


def test_the_page_says_where_the_time_went(parts: Parts, client: FlaskClient) -> None:
    client.post("/login", data={"secret": ADMIN_SECRET}, headers=HTML, base_url=SECURE)
    assert "No session has been started" in client.get("/times", headers=HTML, base_url=SECURE).text
    parts.sessions.start(SessionPlan())
    parts.sessions.views_of_rounds = [view(0), view(1)]
    text = client.get("/times", headers=HTML, base_url=SECURE).text
    for said in ("250 ms", "3.5 s – 7.0 s", "42 ms", "111 ms", "8.1 s"):
        assert said in " ".join(text.split()), said
    # The busiest client first; a name is text.
    assert text.index('id="c-slow"') < text.index("&lt;script&gt;alert(1)") and FUNNY not in text
    session = client.get("/dashboard", headers=HTML, base_url=SECURE).text
    assert "/times?session=" in session and "250 ms" in session


def test_round_by_round_is_all_at_once(parts: Parts) -> None:
    session = parts.sessions.start(SessionPlan())
    times = parts.services.watching.times
    for rounds in ([], [view(0, state=RoundState.RUNNING)], [view(0), view(1)], [view(index) for index in range(130)]):
        parts.sessions.views_of_rounds = rounds
        assert times.of(session.id).closed(session) == session_statistics(session, rounds)
