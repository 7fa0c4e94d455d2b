"""Context files: how to reach a reducer as its admin, `{"url": …, "ca_file": …, "admin_secret": …}`.

A sandbox and a reducer write one, `admin.json`, into their data directory, readable by its owner only.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from fedn.protocol.errors import FednError, InvalidInput, NotFound


@dataclass(frozen=True)
class Context:
    """What a context file says."""

    url: str
    ca_file: Path | None = None
    """The federation's CA; None for a reducer without TLS."""
    admin_secret: str = field(default="", repr=False)


def read_context(file: Path) -> Context:
    """The content of a context file; a relative `ca_file` starts at the file's own directory.

    Raises:
        NotFound: (`no_context_file`).
        InvalidInput: (`bad_context`) it is no context file.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound(
            "no_context_file",
            "there is no such context file",
            fix="A sandbox and a reducer write admin.json into their data directory.",
            where={"file": file},
        ) from error
    except (OSError, ValueError) as error:
        raise _bad_context(file, str(error)) from error
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise _bad_context(file, "it is no JSON object of texts")
    if not content.get("url"):
        raise _bad_context(file, "it names no url")
    ca_file = file.parent / content["ca_file"] if content.get("ca_file") else None
    return Context(content["url"], ca_file, content.get("admin_secret", ""))


def write_context(file: Path, context: Context) -> None:
    """Writes a context file that only its owner can read, atomically. FednError (`cannot_write_file`)."""
    ca_file = str(context.ca_file.resolve()) if context.ca_file else ""
    content = {"url": context.url, "ca_file": ca_file, "admin_secret": context.admin_secret}
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            json.dump(content, stream, indent=2)
        partial.replace(file)
    except OSError as error:
        raise FednError(
            "cannot_write_file",
            f"the context file cannot be written: {error.strerror}",
            fix="Choose another data directory, or make room.",
            where={"file": file},
        ) from error


def _bad_context(file: Path, why: str) -> InvalidInput:
    return InvalidInput(
        "bad_context",
        f"the context file cannot be used: {why}",
        fix='It is JSON such as {"url": "https://host:8090", "ca_file": "ca.crt", "admin_secret": "…"}.',
        where={"file": file},
    )
