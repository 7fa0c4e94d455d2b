"""Extra state between the client and a `train` command: for each set that the plan's rule carries, a file in, one out.

They lie beside the model's files, in the same format. Not here: what a Learner gets (fedn.client.execution).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from fedn.client.calls import TaskCall
from fedn.client.coding import TaskCoding
from fedn.client.execution import fitting_extras
from fedn.client.step_files import read_output
from fedn.models.files import write_tensors
from fedn.models.wire import Tensors
from fedn.protocol.errors import TaskFailed
from fedn.protocol.tasks import TaskKind


@dataclass(frozen=True)
class ExtraFiles:
    """Of one set."""

    name: str
    given: Path
    """Has the server's set."""
    made: Path
    """Where the command writes the change."""


def extra_files(call: TaskCall, folder: Path, suffix: str) -> list[ExtraFiles]:
    """Where a task's sets are; none but for training."""
    if call.kind is not TaskKind.TRAIN:
        return []
    stems = {section.name: f"extra-{quote(section.name, safe='')}" for section in call.extras}
    return [
        ExtraFiles(name, folder / f"{stem}-in{suffix}", folder / f"{stem}-out{suffix}") for name, stem in stems.items()
    ]


def check_known(call: TaskCall, known: Sequence[str]) -> None:
    """Raises TaskFailed (`extra_not_known`) where the command would leave out what is wanted of it."""
    unknown = [section.name for section in call.extras if section.name not in known]
    if unknown and call.kind is TaskKind.TRAIN:
        raise TaskFailed(
            "extra_not_known",
            f"the plan's rule carries {', '.join(unknown)} beside the model, and the package's train command does not "
            "say that it knows it",
            fix="Name it under extras in fedn.yaml, once the command reads and writes it; or let the package name a "
            "learner; or choose a rule without extra state.",
        )


def told_of(files: Sequence[ExtraFiles]) -> dict[str, dict[str, str]]:
    """What the task's JSON file says of them."""
    return {one.name: {"in": str(one.given), "out": str(one.made)} for one in files}


def provide_extras(files: Sequence[ExtraFiles], coding: TaskCoding) -> None:
    """Writes the server's sets where the command reads them, once the model is provided."""
    for one in files:
        write_tensors(one.given, coding.extras[one.name])


def take_extras(files: Sequence[ExtraFiles], coding: TaskCoding) -> Mapping[str, Tensors]:
    """The changes that the command wrote, in the order in which they follow the update.

    Raises:
        TaskFailed: (`bad_output`, `bad_weights`) one is missing, or not like the server's set.
    """
    return fitting_extras({one.name: read_output(one.made, "train") for one in files}, coding.extras) if files else {}
