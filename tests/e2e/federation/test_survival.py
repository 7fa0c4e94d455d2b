"""kill -9 in the middle of sessions, cut links, restarts: ten rounds asked are ten rounds committed, each once."""

import contextlib

import numpy as np
import pytest

from tests.support.federation import Federation, wait_for
from tests.support.proxy import ProcessProxy

ALL = [f"client-{number}" for number in range(1, 6)]


def check_ten_rounds(federation, session_id):
    session = federation.wait_ended(session_id, within_s=240)
    assert (session.state, session.rounds_done) == ("finished", 10), session.error
    rounds = [e for e in federation.api.trail_entries() if e.session == session_id]
    assert [e.round for e in rounds] == list(range(10))
    assert federation.api.verify_trail().length == 11
    np.testing.assert_allclose(federation.weights(session.model_id)["0"], 10.0, rtol=1e-6)
    return rounds


@pytest.mark.parametrize("victim", ["client-2", "c1", "reducer"])
def test_kill_minus_nine_in_the_middle_of_a_session(tmp_path, victim):
    with Federation(tmp_path) as federation:
        federation.seed()
        federation.hold(*ALL, from_round=3)
        session = federation.api.start_session({"rounds": 10, "clients_required": 2, "disconnect_grace_s": 3})
        federation.wait_round(session.id, 3, lambda r: any(str(e.state) == "training" for e in r.ledger))
        process = federation.processes[victim]
        process.kill()
        if victim != "c1":
            process.start()
        federation.release(*ALL)
        check_ten_rounds(federation, session.id)
        if victim == "c1":
            moved = dict.fromkeys(ALL, "c2")
            wait_for(lambda: {c.name: c.combiner for c in federation.api.clients()} == moved, "all are at c2")
        else:
            federation.wait_attached(5)


def test_a_killed_reducer_goes_on_with_the_round_that_runs(tmp_path):
    with Federation(tmp_path) as federation:
        federation.seed()
        federation.hold(*ALL)
        session = federation.api.start_session({"rounds": 2, "clients_required": 5})
        federation.wait_round(session.id, 0, lambda r: all(str(e.state) == "training" for e in r.ledger))
        federation.processes["reducer"].kill()
        federation.release(*ALL)
        federation.processes["reducer"].start()
        assert federation.wait_ended(session.id).rounds_done == 2
        assert [len(federation.trainings(client)) for client in ALL] == [2] * 5
        assert federation.api.round(session.id, 0).attempt == 0
        assert federation.api.verify_trail().length == 3


def test_the_only_combiner_killed_and_restarted_finds_its_clients_again(tmp_path):
    with Federation(tmp_path, combiners=1) as federation:
        federation.seed()
        federation.hold(*ALL)
        session = federation.api.start_session({"rounds": 2, "clients_required": 5, "disconnect_grace_s": 3})
        federation.wait_round(session.id, 0, lambda r: all(str(e.state) == "training" for e in r.ledger))
        federation.processes["c1"].kill()
        federation.release(*ALL)
        federation.processes["c1"].start()
        assert federation.wait_ended(session.id, within_s=240).rounds_done == 2
        assert federation.api.verify_trail().length == 3


def test_cutting_only_the_link_between_reducer_and_combiner_makes_nobody_train_twice(tmp_path):
    with contextlib.ExitStack() as stack:
        federation = stack.enter_context(Federation(tmp_path, combiners=0, clients=0))
        proxy = stack.enter_context(ProcessProxy())
        federation.add_combiner("c1", "--public-port", str(proxy.port))
        proxy.target_port = wait_for(lambda: federation.listening_port("c1"), "the combiner listens")
        wait_for(lambda: all(c.linked for c in federation.api.combiners()), "the combiner is linked")
        for client in ALL:
            federation.add_client(client)
        federation.wait_attached(5)
        federation.seed()
        federation.hold(*ALL)
        session = federation.api.start_session({"rounds": 2, "clients_required": 5})
        federation.wait_round(session.id, 0, lambda r: all(str(e.state) == "training" for e in r.ledger))
        reducer = federation.processes["reducer"].pid
        proxy.cut(reducer)
        wait_for(lambda: not federation.api.combiner("c1").linked, "the reducer noticed the cut")
        federation.release(*ALL)
        wait_for(lambda: all(federation.trainings(client) for client in ALL), "everybody trained")
        proxy.heal(reducer)
        assert federation.wait_ended(session.id).rounds_done == 2
        assert [len(federation.trainings(client)) for client in ALL] == [2] * 5
        assert federation.api.round(session.id, 0).attempt == 0


def test_restarting_everything_continues_the_trail(tmp_path):
    with Federation(tmp_path, combiners=1, clients=2) as federation:
        federation.seed()
        assert federation.run(rounds=2).state == "finished"
        for name in ["client-1", "client-2", "c1", "reducer"]:
            assert federation.processes[name].stop() == 0, federation.processes[name].tail()
        for name in ["client-1", "c1", "client-2", "reducer"]:
            federation.processes[name].start()
        federation.wait_attached(2)
        session = federation.run(rounds=2)
        np.testing.assert_allclose(federation.weights(session.model_id)["0"], 4.0)
        assert federation.api.verify_trail().length == 5
