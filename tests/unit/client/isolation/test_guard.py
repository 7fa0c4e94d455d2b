"""The first process of a container, run here as an ordinary process: its ending would end a container."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedn.client.isolation import guard

WITHIN_S = 60.0


class Agent:
    """The agent's side of a guard."""

    def __init__(self, folder: Path, *words: str, streams: int = 2) -> None:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(folder / "agent.sock"))
            listening.listen()
            listening.settimeout(WITHIN_S)
            command = [sys.executable, "-I", "-S", guard.__file__, str(folder / "agent.sock"), *words]
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.streams = [listening.accept()[0] for _ in range(streams)]
        for stream in self.streams:
            stream.settimeout(WITHIN_S)

    def report(self) -> dict[str, object] | None:
        text = read_all(self.streams[0])
        return json.loads(text) if text else None

    def output(self) -> str:
        return read_all(self.streams[1])

    def close(self) -> None:
        for stream in self.streams:
            stream.close()
        self.process.kill()
        self.process.wait()


def read_all(stream: socket.socket) -> str:
    data = b""
    while piece := stream.recv(4096):
        data += piece
    return data.decode()


@pytest.fixture
def agents() -> Iterator[list[Agent]]:
    made: list[Agent] = []
    yield made
    for agent in made:
        agent.close()


def test_status_and_output_of_the_command_reach_the_agent(tmp_path: Path, agents: list[Agent]) -> None:
    code = "import sys; print('said'); print('complained', file=sys.stderr); sys.exit(3)"
    agents.append(agent := Agent(tmp_path, sys.executable, "-u", "-c", code))
    assert agent.report() == {"status": 3, "oom": False}
    assert agent.output() == "said\ncomplained\n"
    assert agent.process.wait(WITHIN_S) == 0


def test_a_killed_command_is_told_by_its_signal(tmp_path: Path, agents: list[Agent]) -> None:
    agents.append(agent := Agent(tmp_path, sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"))
    assert agent.report() == {"status": 128 + signal.SIGKILL, "oom": False}


def test_a_command_that_is_not_there_is_told(tmp_path: Path, agents: list[Agent]) -> None:
    agents.append(agent := Agent(tmp_path, "no-such-command"))
    assert agent.report() == {"status": 127, "oom": False}
    assert "no-such-command cannot be started" in agent.output()


def test_a_worker_gets_its_channel_and_nothing_else_of_the_guards(tmp_path: Path, agents: list[Agent]) -> None:
    code = """
import os, socket, sys
channel = socket.socket(fileno=int(sys.argv[1]))
channel.sendall(channel.recv(5)[::-1])
print(len(os.listdir("/proc/self/fd")))
"""
    agents.append(agent := Agent(tmp_path, sys.executable, "-c", code, "{channel}", streams=3))
    agent.streams[2].sendall(b"abcde")
    assert agent.streams[2].recv(5) == b"edcba"
    assert agent.report() == {"status": 0, "oom": False}
    assert int(agent.output()) == 5  # the standard three, the channel, and the listing's own


def test_the_guard_ends_when_the_agent_lets_go(tmp_path: Path, agents: list[Agent]) -> None:
    agents.append(
        agent := Agent(tmp_path, sys.executable, "-c", "import os, time; os.write(1, b'here'); time.sleep(300)")
    )
    assert agent.streams[1].recv(4) == b"here"
    agent.streams[0].close()
    assert agent.process.wait(WITHIN_S) == 0
    # In a container all the rest ends with its first process; here it has to be ended.
    agent.streams[1].close()


def test_orphans_are_taken_in_while_the_command_runs(tmp_path: Path, agents: list[Agent]) -> None:
    code = "import subprocess, sys; subprocess.run(['true']); print(sys.stdin.read() == '')"
    agents.append(agent := Agent(tmp_path, sys.executable, "-c", code))
    assert agent.report() == {"status": 0, "oom": False}
    assert agent.output() == "True\n"


@pytest.mark.parametrize(
    ("content", "kills"),
    [("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", 2), ("low 0\noom 3\noom_kill 1\n", 1), ("", 0)],
)
def test_oom_kills_are_read_of_both_versions_of_control_groups(
    content: str, kills: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events"
    path.write_text(content)
    monkeypatch.setattr(guard, "_OOM_FILES", ("/no/such/file", str(path)))
    assert guard._oom_kills() == kills
