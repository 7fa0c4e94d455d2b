"""What the study has measured so far: its rows, kept in the results file, so that a run that ended early goes on."""

from collections.abc import Callable
from pathlib import Path

from benchmarks.results import Row, append, read, stamped


class Record:
    """The rows of a results file, and those that are added to it.

    Args:
        file: need not be there; None: nothing is kept.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._earlier = read(file) if file is not None and file.exists() else []
        self.rows: list[Row] = []
        """Of this run, those that an earlier one had measured included."""

    def row(self, head: Row, measure: Callable[[], Row]) -> Row:
        """What the file has under this head; else what is measured now, which is added to it.

        Args:
            head: all that tells this row from others: equal heads mean equal measurements.
            measure: the rest of the row.
        """
        row = next((row for row in self._earlier if all(row.get(key) == head[key] for key in head)), None)
        if row is None:
            row = stamped({**head, **measure()})
            append(self._file, row)
        self.rows.append(row)
        return row
