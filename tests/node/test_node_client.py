"""A client in another language, written from docs/reference/wire-protocol.md, takes part in real rounds."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from fedn.models.files import write_tensors
from fedn.network.join import JoinString
from fedn.protocol.rest import SessionView
from fedn.protocol.trail import ValidationRecord
from tests.node.conftest import PROJECT, ROOT
from tests.support.federation import WITHIN_S, Federation, wait_for
from tests.support.proxy import ProcessProxy

SITES = {"python": 0, "node": 1}


class Node:
    """The client in JavaScript as a process."""

    def __init__(self, project: Path, folder: Path, csv: Path, join: str = "") -> None:
        self.log = folder / "node.log"
        self._command = ["node", str(project / "src" / "main.js"), "--name", "node", "--data", str(csv)]
        self._command += ["--data-dir", str(folder / "node"), "--proto", str(ROOT / "proto"), "--join", join]
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(WITHIN_S)


def site_csv(index: int, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(PROJECT / "site_data.py"), "--index", str(index), "--count", str(len(SITES))]
    with path.open("w") as file:
        subprocess.run(command, check=True, stdout=file, timeout=120)
    return path


def examples(path: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    rows = [line.split(",")[1:] for line in path.read_text().splitlines() if line.startswith(f"{name},")]
    return np.array([row[1:] for row in rows], np.float64), np.array([row[0] for row in rows], int)


@pytest.fixture(scope="module")
def parts(
    node_client: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Federation, Node, ProcessProxy]]:
    """A federation whose two clients are one in Python and one in JavaScript."""
    folder = tmp_path_factory.mktemp("federation")
    with ExitStack() as stack:
        federation = stack.enter_context(Federation(folder, combiners=0, clients=0))
        proxy = stack.enter_context(ProcessProxy())
        federation.add_combiner("c1", "--public-port", str(proxy.port))
        proxy.target_port = wait_for(lambda: federation.listening_port("c1"), "the combiner listens")
        wait_for(lambda: all(c.linked for c in federation.api.combiners()), "the combiner is linked")
        site_csv(SITES["python"], federation.data_of("python") / "site.csv")
        learner = f"{PROJECT / 'learner.py'}:SoftmaxLearner"
        federation.add_client("python", "--learner", learner, "--package", "none", learner=None)
        join = federation.api.join_string(federation.url).join
        node = Node(node_client, folder, site_csv(SITES["node"], folder / "node.csv"), join)
        stack.callback(lambda: print(node.log.read_text()))
        stack.callback(node.kill)
        federation.wait_attached(2)
        yield federation, node, proxy


Parts = tuple[Federation, Node, ProcessProxy]


def seed(federation: Federation, **more: np.ndarray) -> None:
    path = federation.folder / "seed.safetensors"
    write_tensors(path, {"weight": np.zeros((64, 10), np.float32), "bias": np.zeros(10, np.float32), **more})
    federation.api.seed(path)


def validated(federation: Federation, session: SessionView) -> dict[str, ValidationRecord]:
    """What each of the two said of a session's last model, by its name."""

    def found() -> dict[str, ValidationRecord]:
        records = federation.api.validations(session.id)
        return {one.client: one for one in records if one.model_id == session.model_id}

    return wait_for(lambda: said if (said := found()).keys() == SITES.keys() else None, "both validate the last model")


def descended(weight: np.ndarray, bias: np.ndarray, images: np.ndarray, labels: np.ndarray, rate: float, steps: int):
    for _ in range(steps):
        logits = images @ weight + bias
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        chances[np.arange(len(labels)), labels] -= 1
        weight, bias = weight - rate * images.T @ chances / len(labels), bias - rate * chances.mean(axis=0)
    return weight, bias


def test_the_global_model_is_the_mean_of_what_javascript_and_python_learned(parts: Parts) -> None:
    federation, _, _ = parts
    seed(federation)
    rate, epochs, rounds = 0.5, 3, 2
    plan = {"epochs": epochs, "learning_rate": rate, "batch_size": 10_000}  # one step an epoch, over all examples
    session = federation.run(rounds=rounds, clients_required=2, parameters=plan)
    assert (session.state, session.rounds_done) == ("finished", rounds), session.error

    sites = [federation.data_of("python") / "site.csv", federation.folder / "node.csv"]
    train = [examples(path, "train") for path in sites]
    counts = [len(labels) for _, labels in train]
    weight, bias = np.zeros((64, 10)), np.zeros(10)
    for _ in range(rounds):
        local = [descended(weight, bias, images, labels, rate, epochs) for images, labels in train]
        weight, bias = (np.average([pair[part] for pair in local], axis=0, weights=counts) for part in (0, 1))
    tensors = federation.weights(session.model_id)
    np.testing.assert_allclose(tensors["weight"], weight, atol=1e-5)
    np.testing.assert_allclose(tensors["bias"], bias, atol=1e-5)

    entry = federation.api.round(session.id, 0)
    assert {c.client: c.num_examples for m in entry.combiner_models for c in m.contributions} == dict(
        zip(SITES, counts, strict=True)
    )
    node = next(e for e in entry.ledger if e.client == "node")
    assert node.metadata is not None
    assert (node.metadata.num_steps, node.metadata.form) == (epochs, "model")
    # Both validate each model on examples of their own: what JavaScript says is what NumPy finds.
    images, labels = examples(sites[1], "held_out")
    found = validated(federation, session)["node"]
    assert found.metrics["accuracy"] == pytest.approx(
        np.mean((images @ weight + bias).argmax(axis=1) == labels), abs=0.01
    )


def test_it_learns_digits_and_comes_back_from_a_kill_and_from_a_cut(parts: Parts) -> None:
    federation, node, proxy = parts
    seed(federation)
    session = federation.api.start_session({"rounds": 12, "clients_required": 2, "disconnect_grace_s": 60})
    federation.wait_round(session.id, 3, lambda view: str(view.state) == "committed")
    node.kill()
    node.start()
    federation.wait_round(session.id, 6, lambda view: str(view.state) == "committed")
    proxy.cut(node.process.pid)
    wait_for(lambda: "ended:" in node.log.read_text(), "the client noticed the cut")
    proxy.heal(node.process.pid)
    ended = federation.wait_ended(session.id)
    assert (ended.state, ended.rounds_done) == ("finished", 12), ended.error
    contributions = [
        {c.client for m in federation.api.round(session.id, index).combiner_models for c in m.contributions}
        for index in range(12)
    ]
    assert contributions == [{"python", "node"}] * 12
    final = validated(federation, ended)
    assert np.mean([one.metrics["accuracy"] for one in final.values()]) > 0.9


def test_a_model_of_many_pieces_is_granted_and_comes_back_whole(parts: Parts) -> None:
    federation, _, _ = parts
    ballast = np.random.default_rng(0).standard_normal(5_000_000).astype(np.float32)
    seed(federation, ballast=ballast)
    session = federation.run(rounds=1, clients_required=2)
    assert (session.state, session.rounds_done) == ("finished", 1), session.error
    entry = federation.api.round(session.id, 0)
    assert {e.client: str(e.state) for e in entry.ledger} == {"python": "updated", "node": "updated"}
    np.testing.assert_allclose(federation.weights(session.model_id)["ballast"], ballast, rtol=1e-6)


def test_it_leaves_when_it_is_stopped(parts: Parts) -> None:
    federation, node, _ = parts
    assert node.stop() == 0
    wait_for(lambda: not federation.api.client("node").attached, "the client is gone")
    node.start()
    federation.wait_attached(2)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda join: join[:-6], "damaged"),
        (lambda join: "hello", "no join string"),
    ],
)
def test_a_bad_join_string_is_told(damage, says, parts: Parts, node_client: Path, tmp_path: Path) -> None:
    federation, _, _ = parts
    csv = federation.folder / "node.csv"
    join = damage(federation.api.join_string(federation.url).join)
    node = Node(node_client, tmp_path, csv, join)
    assert node.process.wait(WITHIN_S) == 1
    assert says in node.log.read_text()


def test_another_authority_and_a_name_that_is_taken_end_it(parts: Parts, node_client: Path, tmp_path: Path) -> None:
    federation, _, _ = parts
    csv = federation.folder / "node.csv"
    real = JoinString.parse(federation.api.join_string(federation.url).join)
    for folder, join, says in (
        ("a", JoinString(real.url, f"sha256:{'0' * 64}", real.secret), "another authority"),
        ("b", real, "name_taken"),
    ):
        (tmp_path / folder).mkdir()
        node = Node(node_client, tmp_path / folder, csv, join.encode())
        assert node.process.wait(WITHIN_S) == 1
        assert says in node.log.read_text()


def test_an_older_trail_than_the_one_that_was_seen_is_not_trained_for(parts: Parts) -> None:
    federation, node, _ = parts
    node.stop()
    (federation.folder / "node" / "trail.json").write_text('{"head": "of another trail", "length": 10000}')
    node.start()
    assert node.process.wait(WITHIN_S) == 1
    assert "has seen 10000" in node.log.read_text()
