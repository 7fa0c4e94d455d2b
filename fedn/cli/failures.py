"""How a command fails: one sentence, what to do about it, and an exit status that scripts can tell apart."""

import json
from enum import IntEnum

import click

from fedn.protocol.errors import (
    Conflict,
    FednError,
    Forbidden,
    IntegrityError,
    InvalidInput,
    InvalidSettings,
    NotFound,
    Unauthenticated,
    Unavailable,
)


class Status(IntEnum):
    """Exit statuses of every command. docs/reference/cli.md explains them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_ALLOWED = 3
    NOT_FOUND = 4
    CONFLICT = 5
    UNAVAILABLE = 6
    BROKEN = 7
    INTERRUPTED = 130


_BY_CLASS: tuple[tuple[type[FednError], Status], ...] = (
    (InvalidInput, Status.USAGE),
    (Unauthenticated, Status.NOT_ALLOWED),
    (Forbidden, Status.NOT_ALLOWED),
    (NotFound, Status.NOT_FOUND),
    (Conflict, Status.CONFLICT),
    (Unavailable, Status.UNAVAILABLE),
    (IntegrityError, Status.BROKEN),
)


def status_of(error: FednError) -> Status:
    """The exit status for an error."""
    return next((status for kind, status in _BY_CLASS if isinstance(error, kind)), Status.FAILED)


def report(error: FednError, *, as_json: bool) -> Status:
    """Prints an error on standard error, for people or (one line, problem+json) for programs."""
    if as_json:
        click.echo(json.dumps(error.as_problem(), ensure_ascii=False), err=True)
        return status_of(error)
    if isinstance(error, InvalidSettings) and error.problems:
        head = error.message.partition("\n")[0]
        click.echo(f"{_label('error')} {head}", err=True)
        for problem in error.problems:
            _tell(problem, bullet="  - ")
    else:
        _tell(error, bullet=_label("error") + " ")
    return status_of(error)


def warn(message: str) -> None:
    """One line on standard error."""
    click.echo(f"{click.style('note:', fg='yellow')} {message}", err=True)


def _tell(error: FednError, *, bullet: str) -> None:
    place = ", ".join(f"{key} {value}" for key, value in error.where.items())
    indent = " " * (4 if bullet.isspace() or bullet.startswith(" ") else 2)
    text = error.message + (f" ({place})" if place else "")
    click.echo(f"{bullet}{text}  {click.style(f'[{error.code}]', dim=True)}", err=True)
    if error.fix:
        click.echo(f"{indent}{click.style('fix:', fg='green')} {error.fix}", err=True)
    if bullet.strip() != "-":
        click.echo(f"{indent}{click.style('more:', dim=True)} fedn explain {error.code}", err=True)


def _label(text: str) -> str:
    return click.style(f"{text}:", fg="red", bold=True)
