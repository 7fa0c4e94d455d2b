"""Settings from defaults, a YAML file, the environment and flags, in this order of growing weight; all faults at once.

Environment: FEDN_<PROGRAM>_<FIELD> (FEDN_REDUCER_PORT) before FEDN_<FIELD> (FEDN_PORT), nested fields joined by an
underscore (FEDN_STATE_URL), and the names of FEDn's `.env`. Several programs may share one environment: names of
another program's settings are none of this one's business. Lists are separated by commas, mappings are JSON; an
empty value is not set.
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args
from urllib.parse import quote

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from fedn.plan.settings_base import Settings
from fedn.plan.strict_yaml import read_mapping
from fedn.protocol.errors import FednError, InvalidInput, InvalidSettings

T = TypeVar("T", bound=Settings)

_OTHER_NAMES = {
    "federation": "ALLIANCE_UID",
    "enrolment_secret": "FEDN_ALLIANCE_AUTH_TOKEN",
    "admin_secret": "FEDN_ALLIANCE_ADMIN_AUTH_TOKEN",
    "name_base": "CLIENT_NAME_BASE",
    "models.access_key": "FEDN_MINIO_ACCESS_KEY",
    "models.secret_key": "FEDN_MINIO_SECRET_KEY",
    "models.bucket": "FEDN_MINIO_BUCKET",
    "models.secure": "FEDN_MINIO_SECURE",
    "models.ca_file": "FEDN_MINIO_CA_FILE",
}
"""Field to its name in FEDn's `.env`."""

_JOIN_PARTS = ("reducer_url", "ca_fingerprint", "ca_file")

_FORMER_KEYS = {
    "network_id": "federation",
    "statestore": "state",
    "storage": "models",
    "storage_config": "models",
    "mongo_config": "state",
    "discover_host": "reducer_url",
    "discover_port": "reducer_url",
    "controller": "reducer_url",
    "token": "enrolment_secret",
    "host": "public_host",
    "hostname": "public_host",
    "preferred_combiner": "combiner",
    "client_id": "name",
}
"""Keys of FEDn's settings files to ours."""


class Given(NamedTuple):
    """A value, and where it was found."""

    value: Any
    source: str
    """`file reducer.yaml`, `environment FEDN_PORT` or `flag --port`."""

    @property
    def layer(self) -> str:
        return self.source.partition(" ")[0]


def load_settings(cls: type[T], *, file: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> T:
    """Settings of a program.

    Args:
        cls: the program's settings.
        file: YAML; None: no file.
        environ: the environment, normally `os.environ`.
        flags: values by field, nested ones by dotted path (`state.url`); None: flag not given.

    Raises:
        InvalidSettings: every fault, each with code, fix, and `where` = field and source.
    """
    problems: list[FednError] = []
    given: dict[str, Given] = {}
    for layer in (_from_file(cls, file), _from_environment(cls, environ, problems), _from_flags(flags)):
        try:
            for path, value in layer:
                _replace(cls, given, path, value)
        except FednError as error:
            problems.extend(error.problems if isinstance(error, InvalidSettings) else [error])
    settings = _validate(cls, given, problems)
    if settings is None or problems:
        raise InvalidSettings(problems, what=f"the settings of the {cls.program}")
    return settings


def environment_names(cls: type[Settings]) -> dict[str, list[str]]:
    """Dotted path of each field to its environment names, the weightiest first."""
    names = {}
    for path in _leaves(cls):
        plain = path.replace(".", "_").upper()
        names[path] = [f"FEDN_{cls.program.upper()}_{plain}", f"FEDN_{plain}"]
        if path in _OTHER_NAMES:
            names[path].append(_OTHER_NAMES[path])
    return names


def _replace(cls: type[Settings], given: dict[str, Given], path: str, value: Given) -> None:
    """Puts in a value, and takes out what lighter layers say that it makes pointless.

    Another kind of store has no use for the settings of the former; a join string stands for its parts and they for it.
    """
    if path.endswith(".kind"):
        field = _field(cls, path)
        former = given[path].value if path in given else field.default if field is not None else None
        same = former == value.value
        pointless = [] if same else [other for other in given if other.startswith(path.removesuffix("kind"))]
    elif path == "join":
        pointless = [*_JOIN_PARTS]
    elif path in _JOIN_PARTS:
        pointless = ["join"]
    else:
        pointless = []
    for other in pointless:
        if other in given and given[other].layer != value.layer:
            del given[other]
    given[path] = value


def _validate(cls: type[T], given: dict[str, Given], problems: list[FednError]) -> T | None:
    """The settings, with faults added to `problems`.

    What is wrong by itself is told and left out, and the rest tried again, so that contradictions between the rest come
    out as well.
    """
    left = dict(given)
    told: set[str] = set()
    while True:
        try:
            return cls.model_validate(_nested(left))
        except InvalidSettings as error:
            found: list[FednError] = [problem for problem in error.problems if problem.where["field"] not in told]
            problems.extend(_with_source(problem, given) for problem in found)
            return None
        except ValidationError as error:
            before = len(left)
            for detail in error.errors(include_input=False, include_url=False):
                path = _path_of(detail, given)
                if path in told:
                    continue
                told.add(path)
                problems.append(_problem(cls, detail, path, given))
                for name in [name for name in left if name == path or name.startswith(path + ".")]:
                    del left[name]
            if len(left) == before:
                return None


def _path_of(detail: ErrorDetails, given: Mapping[str, Given]) -> str:
    """The given path that an error belongs to: its location without positions in lists and branches of unions."""
    parts = [str(part) for part in detail["loc"]]
    for length in range(len(parts), 0, -1):
        path = ".".join(parts[:length])
        if path in given or any(name.startswith(path + ".") for name in given):
            return path
    return ".".join(parts)


def _problem(cls: type[Settings], detail: ErrorDetails, path: str, given: Mapping[str, Given]) -> FednError:
    kind = detail["type"]
    message = detail["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        return _with_source(_unknown(cls, path), given)
    code = kind if kind in _CODES else "bad_setting"
    field = _field(cls, path)
    about = f"{field.description.strip()} " if field is not None and field.description else ""
    names = environment_names(cls).get(path)
    hint = f"environment {names[-1]}, flag {_flag(path)}" if names else f"see config/{cls.program}.yaml"
    fault = InvalidInput(
        code,
        f"{path} is not right: {message[:1].lower()}{message[1:]}",
        fix=f"{about}({hint})",
        where={"field": path},
    )
    return _with_source(fault, given)


_CODES = {
    "missing_setting",
    "unused_setting",
    "two_sources",
    "bad_endpoint",
    "bad_url",
    "bad_database",
    "weak_secret",
}
"""Kinds of our own validation errors, which are codes already."""


def _unknown(cls: type[Settings], path: str) -> FednError:
    known = list(_leaves(cls)) + sorted({name.partition(".")[0] for name in _leaves(cls)})
    last = path.rpartition(".")[2]
    near = difflib.get_close_matches(path, known, n=1)
    guess = _FORMER_KEYS.get(last) if _FORMER_KEYS.get(last) in known else (near[0] if near else None)
    return InvalidInput(
        "unknown_setting",
        f"the {cls.program} has no setting {path!r}",
        fix=f"Did you mean {guess!r}?" if guess else f"See the template config/{cls.program}.yaml for all settings.",
        where={"field": path},
    )


def _with_source(problem: FednError, given: Mapping[str, Given]) -> FednError:
    path = problem.where["field"]
    found = [value.source for name, value in given.items() if name == path or name.startswith(path + ".")]
    problem.where["source"] = ", ".join(dict.fromkeys(found)) or "not given"
    return problem


def _from_file(cls: type[Settings], file: Path | None) -> Iterator[tuple[str, Given]]:
    if file is None:
        return
    try:
        content = read_mapping(file.read_bytes(), name=str(file))
    except OSError as error:
        raise InvalidInput(
            "unreadable_file",
            f"the settings file cannot be read: {error.strerror}",
            fix=f"Give the path of a file such as config/{cls.program}.yaml.",
            where={"file": file},
        ) from error
    nested = set(_stores(cls))
    for key, value in content.items():
        if key in nested and isinstance(value, dict):
            yield from ((f"{key}.{name}", Given(inner, f"file {file}")) for name, inner in value.items())
        elif value is not None:
            yield key, Given(value, f"file {file}")


def _from_flags(flags: Mapping[str, object]) -> Iterator[tuple[str, Given]]:
    for path, value in flags.items():
        if value is not None:
            yield path, Given(value, f"flag {_flag(path)}")


def _flag(path: str) -> str:
    return "--" + path.replace("_", "-").replace(".", "-")


def _from_environment(
    cls: type[Settings], environ: Mapping[str, str], problems: list[FednError]
) -> Iterator[tuple[str, Given]]:
    found = dict(_composed(cls, environ))
    for path, names in environment_names(cls).items():
        name = next((name for name in names if environ.get(name)), None)
        if name is None:
            continue
        where = {"field": path, "source": f"environment {name}"}
        if path in found and found[path].value != environ[name]:
            other = found[path].source.removeprefix("environment ")
            message = f"{name} and {other} say different things"
            problems.append(InvalidInput("two_sources", message, fix="Set one of them.", where=where))
        try:
            found[path] = Given(_parsed(environ[name], _field(cls, path)), where["source"])
        except ValueError:
            message, fix = f"{name} is not a JSON object", 'Write it as {"key": "value"}.'
            problems.append(InvalidInput("bad_setting", message, fix=fix, where=where))
    yield from found.items()


def _composed(cls: type[Settings], environ: Mapping[str, str]) -> Iterator[tuple[str, Given]]:
    """What several variables of FEDn's `.env` say together."""
    fields = cls.model_fields
    host, port = environ.get("FEDN_REDUCER_HOST"), environ.get("FEDN_REDUCER_PORT") or "8090"
    if host and "reducer_url" in fields and not environ.get("FEDN_JOIN"):
        yield "reducer_url", Given(f"https://{_bracketed(host)}:{port}", "environment FEDN_REDUCER_HOST")
    stated = environ.get("FEDN_PUBLIC_HOSTS") or environ.get("FEDN_REDUCER_PUBLIC_HOSTS")
    if host and "public_hosts" in fields and not stated:
        known = cls.model_fields["public_hosts"].get_default(call_default_factory=True)
        published = environ.get("FEDN_REDUCER_PUBLISHED_AT", "")
        more = [] if published in {"", "0.0.0.0", "::", *known} else [published]
        yield "public_hosts", Given([*known, *more, host], "environment FEDN_REDUCER_HOST")
    if (mongo := environ.get("FEDN_MONGO_HOST")) and "state" in fields:
        user, password = environ.get("FEDN_MONGO_USER"), environ.get("FEDN_MONGO_PASSWORD")
        login = f"{quote(user, safe='')}:{quote(password or '', safe='')}@" if user else ""
        url = f"mongodb://{login}{_bracketed(mongo)}:{environ.get('FEDN_MONGO_PORT') or '27017'}/"
        if authority := environ.get("FEDN_MONGO_CA_FILE"):
            url += f"?tls=true&tlsCAFile={quote(authority, safe='/')}"
        yield "state.kind", Given("mongodb", "environment FEDN_MONGO_HOST")
        yield "state.url", Given(url, "environment FEDN_MONGO_HOST")
    if (minio := environ.get("FEDN_MINIO_HOST")) and "models" in fields:
        yield "models.kind", Given("s3", "environment FEDN_MINIO_HOST")
        endpoint = f"{_bracketed(minio)}:{environ.get('FEDN_MINIO_PORT') or '9000'}"
        yield "models.endpoint", Given(endpoint, "environment FEDN_MINIO_HOST")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _parsed(text: str, field: FieldInfo | None) -> object:
    shape = str(field.annotation) if field is not None else ""
    if shape.startswith("list["):
        return [item.strip() for item in text.split(",") if item.strip()]
    if shape.startswith("dict["):
        value = json.loads(text)
        if not isinstance(value, dict):
            raise ValueError(text)
        return value
    return text


def _leaves(cls: type[BaseModel], prefix: str = "") -> Iterator[str]:
    stores = _stores(cls)
    for name in cls.model_fields:
        if name in stores:
            yield from _leaves(stores[name], f"{name}.")
        else:
            yield prefix + name


def _stores(cls: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Fields that are models themselves."""
    annotations = {name: field.annotation for name, field in cls.model_fields.items()}
    return {
        name: annotation
        for name, annotation in annotations.items()
        if isinstance(annotation, type) and not get_args(annotation) and issubclass(annotation, BaseModel)
    }


def _field(cls: type[BaseModel], path: str) -> FieldInfo | None:
    first, _, rest = path.partition(".")
    stores = _stores(cls)
    if first in stores and rest:
        return _field(stores[first], rest)
    return cls.model_fields.get(first) if not rest else None


def _nested(given: Mapping[str, Given]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, (value, _) in given.items():
        first, _, rest = path.partition(".")
        if rest:
            store = nested.setdefault(first, {})
            if isinstance(store, dict):
                store[rest] = value
        else:
            nested[first] = value
    return nested
