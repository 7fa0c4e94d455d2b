"""SCAFFOLD at the client: a correction of each step for how this site's data differ from everybody's.

Not here: how the server's control variate moves on (fedn.aggregation.scaffold).
"""

import logging
import math
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from fedn.client.learner import TaskContext
from fedn.client.weights import position_of
from fedn.models.wire import Tensors, decode, encode
from fedn.protocol.errors import InvalidInput

EXTRA = "control_variate"
_LOG = logging.getLogger(__name__)
_KEPT_SESSIONS = 4
_KEPT_ROUNDS = 2
"""Before the one that counted last: a round may be done again with the ones before it."""
_FILE = re.compile(r"(\d+)\.safetensors")


class Scaffold:
    """SCAFFOLD (Karimireddy et al. 2020): each step goes along the gradient of the loss plus c − cᵢ.

    c is the server's control variate, which comes with the task; cᵢ is this client's own. After K steps of size η from
    x to y, cᵢ⁺ = cᵢ − c + (x − y)/(K·η) (Algorithm 1, option II), and Δcᵢ = cᵢ⁺ − cᵢ goes back with the update. Only a
    cᵢ⁺ whose update counted becomes the next task's cᵢ, so that c stays the mean of the clients' cᵢ.

    Args:
        start: x, by name: arrays, or PyTorch tensors. A plain sequence is named by position.
        server: c, by name; empty where the plan's rule is not scaffold: then all corrections are 0.
        kept: the clients' own.
    """

    def __init__(self, start: Mapping[str, Any] | Iterable[Any], server: Tensors, kept: "KeptVariates") -> None:
        self._server, self._kept = server, kept
        self._own = kept.read(server) if server else {}
        pairs = start.items() if isinstance(start, Mapping) else _by_position(list(start), server)
        self._start = {name: _array(weight) for name, weight in pairs if name in server}
        self._gradients = [self._correction(name, weight) for name, weight in pairs]
        if server and (missing := sorted(server.keys() - self._start.keys())):
            raise InvalidInput(
                "weights_do_not_fit",
                f"SCAFFOLD is not given the weights {', '.join(missing[:20])}, which the plan wants corrected",
                fix="Give Scaffold.of the model's weights by the names that the task's model has; or exclude in the "
                "rule's options what is not trained.",
            )

    @classmethod
    def of(cls, context: TaskContext, start: Mapping[str, Any] | Iterable[Any]) -> "Scaffold":
        """For a train task, whatever its plan's rule is.

        Args:
            start: as the class says; for PyTorch `dict(model.named_parameters())`.
        """
        kept = KeptVariates(context.work_dir / "scaffold", context.session, context.round, context.last_counted)
        return cls(start, dict(context.extra.get(EXTRA, {})), kept)

    @property
    def active(self) -> bool:
        """Whether the plan's rule is scaffold."""
        return bool(self._server)

    def gradients(self) -> list[Any]:
        """c − cᵢ for each weight of the start, in its order, to be added to the gradients of the loss in every step.

        Arrays, or tensors on the weights' devices; 0 for a weight that has no control variate.
        """
        return self._gradients

    def finish(
        self, weights: Mapping[str, Any] | Iterable[Any], *, num_steps: int, learning_rate: float
    ) -> dict[str, Tensors]:
        """What the training found, for `TrainResult.extra`; cᵢ⁺ is kept at this site.

        Args:
            weights: y, in the form of the start.
            num_steps: K, at least 1.
            learning_rate: η > 0; where it changed from step to step, the mean over the steps.

        Raises:
            InvalidInput: (`bad_parameter`) one of them is no such number.
        """
        if num_steps < 1 or not (math.isfinite(learning_rate) and learning_rate > 0):
            raise InvalidInput(
                "bad_parameter",
                f"SCAFFOLD needs at least one step of a size above 0, not {num_steps} of {learning_rate}",
                fix="Say how many steps were done, and with which learning rate.",
            )
        if not self._server:
            return {}
        pairs = weights.items() if isinstance(weights, Mapping) else _by_position(list(weights), self._server)
        end = {name: _array(weight) for name, weight in pairs if name in self._server}
        change: Tensors = {}
        own: Tensors = {}
        for name, server in self._server.items():
            moved = (self._start[name].astype(np.float64) - end[name].astype(np.float64)) / (num_steps * learning_rate)
            change[name] = (moved - server).astype(server.dtype)
            own[name] = self._own[name] + change[name]
        self._kept.write(own)
        return {EXTRA: change}

    def _correction(self, name: str, weight: Any) -> Any:
        server = self._server.get(name)
        if server is None:
            return 0.0
        correction = server - self._own[name]
        if hasattr(weight, "detach"):
            return weight.detach().new_tensor(correction)
        return correction


class KeptVariates:
    """This client's cᵢ of one session, a file for each round that it trained in.

    Args:
        folder: for all sessions; made if missing.
        session, round_index: of the task.
        last_counted: index of the last round whose model counts an update of this client.
    """

    def __init__(self, folder: Path, session: str, round_index: int, last_counted: int | None) -> None:
        self._all = folder
        self._folder = folder / quote(session or "session", safe="")
        self._round = round_index
        self._counted = last_counted

    def read(self, like: Tensors) -> Tensors:
        """cᵢ as it was after the update that counted last; 0 where none did, or it is lost."""
        fresh = {name: np.zeros_like(array) for name, array in like.items()}
        if self._counted is None:
            return fresh
        try:
            data = self._path(self._counted).read_bytes()
            found = {name: np.array(array) for name, array in decode(data).items()}
        except (OSError, InvalidInput) as error:
            _LOG.warning("the control variate of round %d is lost, and begins anew at 0: %s", self._counted, error)
            return fresh
        if {name: array.shape for name, array in found.items()} != {name: one.shape for name, one in like.items()}:
            _LOG.warning("the control variate of round %d is of another model, and begins anew at 0", self._counted)
            return fresh
        return found

    def write(self, own: Tensors) -> None:
        """Keeps cᵢ⁺ of the task's round, and forgets what no task can ask for any more."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        working = self._folder / "working.tmp"
        working.write_bytes(encode(own))
        os.replace(working, self._path(self._round))
        oldest = (self._round if self._counted is None else self._counted) - _KEPT_ROUNDS
        for path in self._folder.iterdir():
            match = _FILE.fullmatch(path.name)
            if match is not None and int(match.group(1)) < oldest:
                path.unlink()
        sessions = sorted(self._all.iterdir(), key=lambda path: path.stat().st_mtime)
        for path in sessions[:-_KEPT_SESSIONS]:
            shutil.rmtree(path)

    def _path(self, round_index: int) -> Path:
        return self._folder / f"{round_index}.safetensors"


def _by_position(weights: list[Any], server: Tensors) -> list[tuple[str, Any]]:
    """Weights with the names that the task's model has for their positions."""
    names = {position_of(name): name for name in server}
    return [(names.get(position, ""), weight) for position, weight in enumerate(weights)]


def _array(weight: Any) -> np.ndarray[Any, Any]:
    """A copy: weights are changed in place."""
    if hasattr(weight, "detach"):
        weight = weight.detach().cpu().numpy()
    return np.array(weight)
