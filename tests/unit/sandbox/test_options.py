"""What a sandbox's options make of the programs that it starts."""

from itertools import pairwise
from pathlib import Path

from fedn.sandbox.federation import Sandbox, SandboxOptions
from fedn.sandbox.project import open_project


class Recording(Sandbox):
    """Starts nothing, and notes what it would."""

    def __init__(self, options: SandboxOptions) -> None:
        super().__init__(open_project(None), options)
        self.started: dict[str, tuple[list[str], dict[str, str]]] = {}

    def _start(self, name, arguments, environ):
        self.started[name] = arguments, environ


def test_combiners_get_the_settings_of_their_update_store(tmp_path: Path) -> None:
    updates = {"kind": "redis", "url": "redis://store:6379/0", "lineage_length": "3"}
    sandbox = Recording(SandboxOptions(data_dir=tmp_path, updates=updates))
    sandbox._start_combiner("combiner-1", {})
    arguments, _ = sandbox.started["combiner-1"]
    said = list(pairwise(arguments))
    assert ("--updates-kind", "redis") in said
    assert ("--updates-url", "redis://store:6379/0") in said
    assert ("--updates-lineage-length", "3") in said


def test_clients_take_turns_at_the_gpus(tmp_path: Path) -> None:
    sandbox = Recording(SandboxOptions(data_dir=tmp_path, clients=3, cuda_devices=((0,), (1, 2))))
    for number in (1, 2, 3):
        sandbox._start_client(number, {})
    seen = [sandbox.started[f"client-{number}"][1]["CUDA_VISIBLE_DEVICES"] for number in (1, 2, 3)]
    assert seen == ["0", "1,2", "0"]
    plain = Recording(SandboxOptions(data_dir=tmp_path))
    plain._start_client(1, {})
    assert "CUDA_VISIBLE_DEVICES" not in plain.started["client-1"][1]
