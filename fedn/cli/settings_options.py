"""Flags of a program's settings: made from its fields, so that each has one and none does nothing."""

import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fedn.plan.settings import Settings, load_settings

T = TypeVar("T", bound=Settings)
F = TypeVar("F", bound=Callable[..., Any])


def settings_options(cls: type[T]) -> Callable[[F], F]:
    """Adds --config and a flag a field; the command gets `settings: T`, loaded and validated."""

    def decorate(command: F) -> F:
        fields = dict(_leaves(cls))

        @functools.wraps(command)
        def wrapped(*args: Any, config: Path | None, **kwargs: Any) -> Any:
            flags = {path: _value(kwargs.pop(_parameter(path)), field) for path, field in fields.items()}
            settings = load_settings(cls, file=config, environ=os.environ, flags=flags)
            return command(*args, settings=settings, **kwargs)

        decorated: Any = wrapped
        for path, field in reversed(fields.items()):
            decorated = _option(path, field)(decorated)
        decorated = click.option(
            "--config",
            envvar=f"FEDN_{cls.program.upper()}_CONFIG",
            show_envvar=True,
            type=click.Path(path_type=Path),
            help="YAML file of settings; environment and flags weigh more.",
        )(decorated)
        return decorated  # type: ignore[no-any-return]

    return decorate


def _leaves(cls: type[BaseModel], prefix: str = "") -> list[tuple[str, FieldInfo]]:
    found: list[tuple[str, FieldInfo]] = []
    for name, field in cls.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += _leaves(inner, f"{prefix}{name}.")
        else:
            found.append((prefix + name, field))
    return found


def _parameter(path: str) -> str:
    return "setting_" + path.replace(".", "_")


def _option(path: str, field: FieldInfo) -> Callable[[Any], Any]:
    flag = "--" + path.replace("_", "-").replace(".", "-")
    text = " ".join((field.description or "").split())
    shown = field.get_default(call_default_factory=True, validated_data={}) if not field.is_required() else None
    if field.annotation is bool:
        declaration = f"{flag}/--no-{flag[2:]}"
        return click.option(declaration, _parameter(path), default=None, help=_help(text, "yes" if shown else "no"))
    many = _is_list(field) or _is_mapping(field)
    return click.option(
        flag,
        _parameter(path),
        default=None,
        multiple=many,
        metavar=_metavar(field),
        help=_help(text + (" May be given several times." if many else ""), _shown(shown)),
    )


def _metavar(field: FieldInfo) -> str:
    shape = str(field.annotation)
    if choices := re.search(r"Literal\[([^]]*)\]", shape):
        return "|".join(word.strip(" '") for word in choices.group(1).split(","))
    if _is_mapping(field):
        return "NAME=VALUE"
    for word, metavar in (("ByteSize", "SIZE"), ("Path", "PATH"), ("float", "NUMBER"), ("int", "INTEGER")):
        if word in shape:
            return metavar
    return "TEXT"


def _help(text: str, default: str) -> str:
    return f"{text} [default: {default}]".strip() if default else text


def _shown(value: object) -> str:
    if value is None or value == "" or value == [] or value == {}:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _is_list(field: FieldInfo) -> bool:
    return str(field.annotation).startswith("list[")


def _is_mapping(field: FieldInfo) -> bool:
    return str(field.annotation).startswith("dict[")


def _value(given: Any, field: FieldInfo) -> object:
    if not isinstance(given, tuple):
        return given
    if not given:
        return None
    if _is_mapping(field):
        bad = [item for item in given if "=" not in item]
        if bad:
            raise click.BadParameter(f"{bad[0]!r} is not NAME=VALUE")
        return dict(item.split("=", 1) for item in given)
    return [part.strip() for item in given for part in item.split(",")]
