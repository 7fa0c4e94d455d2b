"""One real federation (reducer, combiner, clients, embedded stores, TLS) that trains one session after another.

Each session starts from the same model. Its global models are judged here, on the test data that no site has: that
costs no client's time, and means the same for every scheduler.
"""

import math
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.convergence.clients.network import make_network
from benchmarks.convergence.idleness import Idleness, idleness
from benchmarks.federation import options_of
from benchmarks.learning import data
from benchmarks.results import Row
from fedn.models.files import read_tensors, write_tensors
from fedn.plan.session import SessionPlan
from fedn.protocol.rest import RoundView
from fedn.protocol.rounds import LedgerState, RoundKind, RoundState
from fedn.sandbox.federation import Sandbox
from fedn.sandbox.project import open_project
from fedn.workers.algorithms.networks import accuracy

PACKAGE = Path(__file__).resolve().parent / "clients"
_MOST_JUDGED = 120
"""Models of one session: asynchronous ones make thousands. They are taken evenly, and the last one is among them."""
_ROUND_TIMEOUT_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is learned."""

    data: str
    """As `benchmarks.learning.data.load` calls it."""
    examples: int
    """Of its training examples, so many are dealt out to the clients."""
    hidden: int
    batch_size: int


PROBLEMS = {
    "digits": Problem(data="digits", examples=1_348, hidden=32, batch_size=16),
    "fashion": Problem(data="fashion", examples=5_000, hidden=32, batch_size=32),
}


@dataclass(frozen=True)
class Point:
    """A global model."""

    round: int
    """From 1: how many rounds, or commits, it took."""
    t_s: float
    """From the start of the session's first round to the model's commit."""
    accuracy: float
    """On all test data."""


@dataclass(frozen=True)
class Course:
    """What became of a session."""

    points: tuple[Point, ...]
    rounds: int
    updates: int
    steps: int
    """Optimizer steps of the updates that counted."""
    ms_per_step: Mapping[str, float]
    """Of each client with such an update, as it measured them: the mean over its steps."""
    idleness: Idleness

    def as_row(self) -> Row:
        return {
            "rounds": self.rounds,
            "updates": self.updates,
            "steps": self.steps,
            "ms_per_step": dict(self.ms_per_step),
            "window_s": self.idleness.window_s,
            "idle_s": dict(self.idleness.idle_s),
            "idle_share": self.idleness.share,
            "curve": [[point.round, round(point.t_s, 3), round(point.accuracy, 4)] for point in self.points],
        }


class Federation:
    """Made by `open_federation`."""

    def __init__(self, sandbox: Sandbox, problem: Problem, folder: Path) -> None:
        loaded = data.load(problem.data)
        self.clients = sandbox.options.clients
        self._widths = widths_of(problem, loaded)
        self._network = make_network(self._widths)
        self._test = loaded.test
        self._sandbox, self._problem, self._folder = sandbox, problem, folder
        self._plan = sandbox.plan().model_dump(by_alias=True)
        self._seed_model = sandbox.api.trail().items[0].model_id

    def train(self, choices: Mapping[str, Any], parameters: Mapping[str, Any]) -> Course:
        """One session from the seed model.

        Args:
            choices: fields of its plan.
            parameters: of the plan, beside those that follow from the problem.

        Raises:
            RuntimeError: it did not finish, or made no model.
        """
        api = self._sandbox.api
        own = {"data": self._problem.data, "examples": self._problem.examples, "widths": self._widths}
        fields = {
            "validate": False,
            "model_id": self._seed_model,
            "round_timeout_s": _ROUND_TIMEOUT_S,
            "clients_required": 1,
            "parameters": {**own, "batch_size": self._problem.batch_size, **parameters},
        }
        session = api.start_session(SessionPlan.model_validate({**self._plan, **fields, **choices})).id
        for _ in self._sandbox.follow(session):
            pass
        view = api.session(session)
        rounds = sorted(api.rounds(session), key=lambda one: one.index)
        done = [one for one in rounds if one.kind is RoundKind.TRAIN and one.state is RoundState.COMMITTED]
        if view.state != "finished" or not done:
            why = view.error.message if view.error else "without any model"
            raise RuntimeError(f"the session {session} {view.state}: {why}")
        return self._course(rounds, done)

    def _course(self, rounds: Sequence[RoundView], done: Sequence[RoundView]) -> Course:
        counted = [
            (entry.client, entry.metadata)
            for one in done
            for entry in one.ledger
            if entry.state is LedgerState.UPDATED and entry.metadata is not None
        ]
        begun = done[0].started_at
        points = tuple(
            Point(place + 1, (done[place].ended_at or begun) - begun, self._accuracy_of(done[place].model_id))
            for place in evenly(len(done), _MOST_JUDGED)
        )
        steps: Counter[str] = Counter()
        spent_ms: defaultdict[str, float] = defaultdict(float)
        for client, metadata in counted:
            steps[client] += metadata.num_steps
            spent_ms[client] += metadata.num_steps * metadata.ms_per_step
        ms_per_step = {client: spent_ms[client] / steps[client] for client in sorted(steps) if steps[client]}
        return Course(points, len(done), len(counted), steps.total(), ms_per_step, idleness(rounds))

    def _accuracy_of(self, model_id: str) -> float:
        file = self._folder / "judged.safetensors"
        self._sandbox.api.download_model(model_id, file)
        return accuracy(self._network.forward(read_tensors(file), self._test.inputs), self._test.labels)


@contextmanager
def open_federation(problem: Problem, clients: int) -> Iterator[Federation]:
    """A federation whose clients wait for sessions; its programs end with the block."""
    with tempfile.TemporaryDirectory(prefix="fedn-convergence-") as name:
        folder = Path(name)
        _make_project(folder / "project", problem)
        options = options_of(folder / "sandbox", clients=clients, combiners=1, tls=True)
        with Sandbox(open_project(folder / "project"), options) as sandbox:
            sandbox.start()
            yield Federation(sandbox, problem, folder)


def widths_of(problem: Problem, loaded: data.DataSet) -> list[int]:
    """Of the network's layers."""
    return [loaded.train.inputs.shape[1], problem.hidden, loaded.classes]


def evenly(count: int, most: int) -> list[int]:
    """Places among `count` things, `most` of them at the most, the first and the last one included."""
    every = math.ceil(count / most)
    return sorted({*range(0, count, every), count - 1})


def _make_project(folder: Path, problem: Problem) -> None:
    shutil.copytree(PACKAGE, folder / "client", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(data.__file__, folder / "client" / "data.py")
    network = make_network(widths_of(problem, data.load(problem.data)))
    write_tensors(folder / "seed.safetensors", network.init(seed=0))
