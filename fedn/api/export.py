"""A session as files: one JSON document, or a folder of CSV tables. Read through the REST API; what is there is kept.

Everything is written beside its place first: an export is there as a whole, or not at all.
"""

import contextlib
import csv
import json
import math
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedn.api.client import APIClient
from fedn.protocol.errors import Conflict, FednError
from fedn.protocol.rest import Accounting, ModelView, RoundView, SessionView, account, as_json
from fedn.protocol.rounds import Usage
from fedn.protocol.trail import ValidationRecord

SCHEMA_VERSION = 1
"""Of the JSON document; grows where a field changes its meaning."""

_USAGE = tuple(Usage.model_fields)


@dataclass(frozen=True)
class SessionData:
    """All that is known of a session."""

    session: SessionView
    rounds: tuple[RoundView, ...]
    """With their ledgers, in order."""
    models: tuple[ModelView, ...]
    """That the session made, in order."""
    validations: tuple[ValidationRecord, ...]
    accounting: Accounting


def read_session(api: APIClient, session: str) -> SessionData:
    """Everything of a session, as it is now."""
    rounds = tuple(api.rounds(session))
    models = tuple(sorted((view for view in api.models() if view.session == session), key=lambda view: view.index))
    return SessionData(
        session=api.session(session),
        rounds=rounds,
        models=models,
        validations=tuple(api.validations(session)),
        accounting=account(session, rounds),
    )


def write_json(data: SessionData, file: Path) -> None:
    """One document with all of it. FednError (`cannot_write_file`)."""
    document = {"schema_version": SCHEMA_VERSION, **as_json(vars(data))}
    with _telling(file), tempfile.TemporaryDirectory(dir=file.absolute().parent, prefix=f".{file.name}.") as folder:
        partial = Path(folder) / "export.json"
        partial.write_text(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
        partial.replace(file)


def write_csv(data: SessionData, folder: Path) -> list[Path]:
    """A new folder with a table a subject; returns its files. Rounds are numbered from 0, as in the REST API.

    Raises:
        Conflict: (`folder_exists`) the folder is there already.
        FednError: (`cannot_write_file`).
    """
    if folder.exists():
        raise Conflict(
            "folder_exists", "the folder is there already", fix="Name a new one with --out.", where={"file": folder}
        )
    with _telling(folder):
        partial = Path(tempfile.mkdtemp(dir=folder.absolute().parent, prefix=f".{folder.name}."))
        try:
            for name, headings, rows in _tables(data):
                with (partial / f"{name}.csv").open("w", newline="", encoding="utf-8") as stream:
                    writer = csv.writer(stream)
                    writer.writerow(headings)
                    writer.writerows([_cell(value) for value in row] for row in rows)
            partial.chmod(0o755)
            partial.replace(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return sorted(folder.iterdir())


@contextlib.contextmanager
def _telling(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FednError(
            "cannot_write_file",
            f"the file cannot be written: {error.strerror or error}",
            fix="Choose another place with --out, or make room.",
            where={"file": target},
        ) from error


def _cell(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return as_json(value)
    return "" if value is None else value


Table = tuple[str, Sequence[str], Iterable[Sequence[object]]]


def _tables(data: SessionData) -> Iterator[Table]:
    yield (
        "rounds",
        (
            "round",
            "kind",
            "state",
            "attempts",
            "cohort",
            "base_model_id",
            "model_id",
            "started_at",
            "ended_at",
            "error",
        ),
        (
            (
                *(view.index, str(view.kind), str(view.state), view.attempt + 1, len(view.cohort)),
                *(view.base_model_id, view.model_id, view.started_at, view.ended_at),
                view.error.code if view.error else "",
            )
            for view in data.rounds
        ),
    )
    yield (
        "times",
        ("round", "part", "ms"),
        ((view.index, part, ms) for view in data.rounds for part, ms in view.times_ms.items()),
    )
    yield (
        "ledger",
        (
            *("round", "client", "combiner", "state", "reason", "update_id", "size_bytes", "num_examples", "num_steps"),
            *("ms_per_step", "task_ms", "cpu_ms", "memory_bytes", "busy_ms", "down_bytes", "up_bytes", "updated_at"),
        ),
        _ledger_rows(data.rounds),
    )
    yield "metrics", ("round", "kind", "phase", "client", "metric", "value"), _metric_rows(data)
    yield (
        "contributions",
        ("round", "combiner", "client", "update_id", "num_examples", "weight"),
        (
            (view.index, model.combiner, part.client, part.update_id, part.num_examples, part.weight)
            for view in data.rounds
            for model in view.combiner_models
            for part in model.contributions
        ),
    )
    yield (
        "accounting_rounds",
        ("round", "kind", "state", "attempts", "wall_ms", *_USAGE),
        (
            (each.index, str(each.kind), str(each.state), each.attempts, each.wall_ms, *_numbers(each.usage))
            for each in data.accounting.rounds
        ),
    )
    yield (
        "accounting_clients",
        ("client", "rounds", *_USAGE),
        ((each.client, each.rounds, *_numbers(each.usage)) for each in data.accounting.clients),
    )


def _numbers(usage: Usage) -> list[float]:
    return [getattr(usage, name) for name in _USAGE]


def _ledger_rows(rounds: Iterable[RoundView]) -> Iterator[Sequence[object]]:
    for view in rounds:
        for entry in view.ledger:
            told = entry.metadata
            yield (
                *(
                    view.index,
                    entry.client,
                    entry.combiner,
                    str(entry.state),
                    entry.reason.code if entry.reason else "",
                ),
                *(entry.update_id, entry.size_bytes),
                *((told.num_examples, told.num_steps, told.ms_per_step, told.task_ms) if told else (None,) * 4),
                *((told.cpu_ms, told.memory_bytes) if told else (None,) * 2),
                *(entry.busy_ms, entry.down_bytes, entry.up_bytes, entry.updated_at),
            )


def _metric_rows(data: SessionData) -> Iterator[Sequence[object]]:
    """Training: of the round (no client), and of each client. Validation: of the model that a round made, by client."""
    for view in data.rounds:
        kind = str(view.kind)
        for name, value in view.metrics.items():
            yield view.index, kind, "round", "", name, value
        for entry in view.ledger:
            told = entry.metadata
            for name, value in (told.metrics if told else {}).items():
                yield view.index, kind, "client", entry.client, name, value
    made_by = {model.entry_hash: model.round for model in data.models}
    for record in data.validations:
        for name, value in record.metrics.items():
            yield made_by.get(record.entry_hash), "validate", "validation", record.client, name, value
