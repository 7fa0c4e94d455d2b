"""What a light client does with one task, drawn from the seed: the same in each repetition of a run."""

import random
from dataclasses import dataclass
from enum import StrEnum, auto

from fedn.swarm.options import Behaviour


class Deed(StrEnum):
    """What becomes of a task."""

    ANSWER = auto()
    FAIL = auto()
    """The client reports that it failed."""
    LEAVE = auto()
    """The client says goodbye when the task comes, and answers it when it is back."""
    VANISH = auto()
    """The stream is cut when the task comes; the client answers it when it is back."""
    VANISH_UPLOADING = auto()
    """The stream is cut in the middle of the upload, which goes on when the client is back."""


@dataclass(frozen=True, slots=True)
class Draw:
    deed: Deed
    think_s: float


_GOINGS = (Deed.LEAVE, Deed.VANISH, Deed.VANISH_UPLOADING)


def draw(behaviour: Behaviour, client: str, task_id: str) -> Draw:
    """What this client does with this task."""
    if not (behaviour.failure_rate or behaviour.dropout_rate or behaviour.think_spread):
        return Draw(Deed.ANSWER, behaviour.think_ms / 1000)
    chance = random.Random(f"{behaviour.seed}\0{client}\0{task_id}")  # noqa: S311 (no secret)
    spread = behaviour.think_spread
    think_s = behaviour.think_ms / 1000 * chance.uniform(1 - spread, 1 + spread)
    fate = chance.random()
    if fate < behaviour.failure_rate:
        return Draw(Deed.FAIL, think_s)
    if fate < behaviour.failure_rate + behaviour.dropout_rate:
        return Draw(chance.choice(_GOINGS), think_s)
    return Draw(Deed.ANSWER, think_s)


def is_slow(behaviour: Behaviour, client: str) -> bool:
    """Whether the client sends over a slow link."""
    if not behaviour.slow_share:
        return False
    return random.Random(f"{behaviour.seed}\0{client}").random() < behaviour.slow_share  # noqa: S311 (no secret)
