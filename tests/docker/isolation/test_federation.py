"""Packages in containers as the federation sees them: real tiers, real clients, and what the ledger says."""

from pathlib import Path

import pytest

from fedn.client.preflight import preflight
from fedn.plan.package import build_package
from fedn.plan.settings import ClientSettings
from tests.docker.isolation.conftest import containers_of
from tests.support.federation import Federation

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200)]

CODE = """
import socket
import time
from pathlib import Path

import numpy as np

import fedn


class Wild(fedn.Learner):
    '''Does what the site's data say.'''

    def get_weights(self):
        return [np.zeros((3, 2), np.float32), np.zeros(4, np.float32)]

    def train(self, weights, context):
        mode = (Path(context.data_path) / "mode").read_text()
        if mode == "dial":
            socket.create_connection(("192.0.2.1", 80), timeout=20)
        if mode == "write":
            Path("/etc/stolen").write_text("x")
        if mode == "read":
            Path(SECRET).read_text()
        if mode == "eat":
            np.ones(1 << 28)
        return [value + 1 for value in weights], {"loss": 0.5}, {"num_examples": 3}
"""
REASONS = {
    "dial": "Isolated code has no network",
    "write": "may write to FEDN_WORK_DIR",
    "read": "sees its package, data_path and data_folders",
    "eat": "more than the 256 MiB of memory",
}


def test_wild_packages_fail_with_reasons_in_the_ledger_and_their_clients_live(image: str, tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "fedn.yaml").write_text("learner: wild:Wild\n")
    with Federation(tmp_path, combiners=1, clients=0) as federation:
        secret = tmp_path / "good" / "site.key"
        (package / "wild.py").write_text(CODE.replace("SECRET", repr(str(secret))))
        federation.api.upload_package(build_package(package))
        names = ["good", *REASONS]
        for name in names:
            flags = ["--isolation", "docker", "--isolation-image", image, "--memory-bytes", "256MiB"]
            federation.add_client(name, *flags, learner=None)
            (federation.data_of(name) / "mode").write_text(name)
        federation.wait_attached(len(names))
        assert secret.is_file()
        check_before_start(federation, image)
        federation.seed()
        session = federation.run(rounds=1, clients_required=1, clients_requested=len(names))
        assert session.state == "finished", session.error
        ledger = {entry.client: entry for entry in federation.api.round(session.id, 0).ledger}
        assert ledger["good"].state == "updated"
        for name, reason in REASONS.items():
            assert ledger[name].state == "failed" and reason in ledger[name].reason.message, ledger[name]
        for name in names:
            (federation.data_of(name) / "mode").write_text("good")
        session = federation.run(rounds=1, clients_required=len(names))
        assert session.state == "finished", session.error
        assert {str(entry.state) for entry in federation.api.round(session.id, 0).ledger} == {"updated"}
        processes = [federation.processes[name] for name in names]
        assert not any(process.ended for process in processes)
    for name in names:
        assert containers_of(tmp_path / name) == []


def check_before_start(federation: Federation, image: str) -> None:
    """`fedn client preflight` makes a container as those of packages, and names what is missing."""
    settings = ClientSettings(
        join=federation.api.join_string(federation.url).join,
        name="checked",
        data_dir=federation.folder / "checked",
        isolation="docker",
        isolation_image=image,
    )
    checks = {check.name: check for check in preflight(settings)}
    assert all(check.ok for check in checks.values()), checks
    assert image in checks["isolation"].detail and "fedn" in checks["isolation"].detail
    assert "train" in checks["code"].detail
    checks = {check.name: check for check in preflight(settings.model_copy(update={"isolation_image": "no/image"}))}
    assert "image_missing" in checks["isolation"].detail and "docker pull no/image" in checks["isolation"].fix
    assert checks["code"].skipped
    assert containers_of(settings.data_dir) == []
