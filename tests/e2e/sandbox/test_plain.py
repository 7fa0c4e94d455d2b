"""A sandbox without TLS: plain text between its programs, on the loopback, and nowhere else."""

from pathlib import Path

import pytest

from fedn.plan.settings import ReducerSettings
from fedn.protocol.errors import FednError
from fedn.sandbox.federation import Sandbox, SandboxOptions
from fedn.sandbox.project import open_project


@pytest.mark.timeout(300)
def test_a_sandbox_without_tls_trains(tmp_path: Path) -> None:
    options = SandboxOptions(clients=2, combiners=1, data_dir=tmp_path / "sandbox", tls=False)
    with Sandbox(open_project(None), options) as sandbox:
        sandbox.start()
        assert sandbox.url.startswith("http://127.0.0.1:")
        assert [combiner.host for combiner in sandbox.api.combiners()] == ["127.0.0.1"]
        session = sandbox.begin_session(sandbox.plan(rounds=2))
        *_, last = sandbox.follow(session)
        assert (last.state, last.rounds_done) == ("finished", 2)
        assert sandbox.api.verify_trail().length == 3


def test_plain_text_is_refused_where_others_can_connect() -> None:
    with pytest.raises(FednError, match="TLS is off"):
        ReducerSettings(tls=False, bind="0.0.0.0")
