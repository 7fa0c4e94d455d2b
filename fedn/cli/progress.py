"""A session on the terminal: a bar over the rounds, and a line a round. Not a terminal: the lines alone."""

from collections.abc import Iterable

import click
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from fedn.api.progress import RoundLine, SessionProgress
from fedn.cli.output import duration

_FIRST = ("accuracy", "loss")
"""Metrics that come first, where they are reported."""


def show_session(updates: Iterable[SessionProgress]) -> SessionProgress:
    """Shows a session until it ends and returns its last state.

    A round's line is printed when its model was validated, or when it will not be any more.
    """
    console = Console(highlight=False)
    lines = _Lines(console)
    progress: SessionProgress | None = None
    if console.is_terminal:
        bar = Progress(
            SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
        )
        task = bar.add_task("starting", total=None)
        with Live(Group(bar), console=console, transient=True, refresh_per_second=8):
            for progress in updates:
                lines.print_new(progress)
                bar.update(task, total=progress.rounds, completed=progress.rounds_done, description=progress.activity)
    else:
        for progress in updates:
            lines.print_new(progress)
    if progress is None:
        raise click.ClickException("nothing is known of this session")
    lines.print_new(progress)
    return progress


class _Lines:
    """Prints each round's line once."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._printed: set[int] = set()
        self._notes = 0
        self._names: list[str] | None = None
        """Columns; None: not chosen yet."""
        self._of_training = False

    def print_new(self, progress: SessionProgress) -> None:
        for note in progress.notes[self._notes :]:
            self._console.print(f"  ! {note}", style="yellow", markup=False, soft_wrap=True)
        self._notes = len(progress.notes)
        newest = max(progress.lines, default=-1)
        if (self._names is None or self._of_training) and not self._choose_columns(progress, newest):
            return
        for index in sorted(set(progress.lines) - self._printed):
            line = progress.lines[index]
            # The validation of a model comes with the round after it, and may be told just after that one's commit.
            if line.validations or self._of_training or index + 1 < newest or progress.done:
                self._print(line, progress.rounds)
                self._printed.add(index)

    def _choose_columns(self, progress: SessionProgress, newest: int) -> bool:
        """Whether it is known by now which metrics to show: those of the first validation; or those of the training
        where nobody validates, until somebody does."""
        validated = next((line.validation for line in progress.lines.values() if line.validation), None)
        if validated is None and self._names is not None:
            return True
        if validated is None and (newest < 0 or not (newest > 1 or progress.done or not progress.validated)):
            return False
        self._of_training = validated is None
        shown = progress.lines[min(progress.lines)].training if validated is None else validated
        self._names = [name for name in _FIRST if name in shown]
        self._names += [name for name in shown if name not in self._names][: 4 - len(self._names)]
        if self._of_training:
            self._console.print("No model was validated: these are metrics of the training.", markup=False)
        heading = "".join(f"{name[:12]:>14}" for name in self._names)
        self._console.print(f"{'round':>9}{heading}{'clients':>10}{'time':>10}", style="bold", markup=False)
        return True

    def _print(self, line: RoundLine, rounds: int) -> None:
        shown = line.training if self._of_training else line.validation
        values = "".join(f"{shown[name]:>14.4f}" if name in shown else f"{'-':>14}" for name in self._names or ())
        position = f"{line.index + 1}/{rounds}"
        time = f"{line.total_ms / 1000:.2f} s" if line.total_ms < 10_000 else duration(line.total_ms / 1000)
        self._console.print(f"{position:>9}{values}{line.updates:>10}{time:>10}", markup=False)
