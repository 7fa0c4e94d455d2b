"""Which reducer a command talks to, and as whom: flags, environment, or a context file (`fedn.api.context`)."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from fedn.api.client import APIClient
from fedn.api.context import Context, read_context
from fedn.cli.output import Output
from fedn.protocol.errors import InvalidInput

CONTEXT_FILES = (Path("fedn-sandbox/admin.json"), Path("fedn-data/reducer/admin.json"))
"""Looked for in the current directory, in this order."""

F = TypeVar("F", bound=Callable[..., Any])


def json_option(command: F) -> F:
    """Adds --json; the command gets `out: Output`."""

    @click.option("--json", "as_json", is_flag=True, help="Print data for programs.")
    @functools.wraps(command)
    def wrapped(*args: Any, as_json: bool, **kwargs: Any) -> Any:
        return command(*args, out=Output(json=as_json), **kwargs)

    return wrapped  # type: ignore[return-value]


def reducer_options(command: F) -> F:
    """Adds --json and what names the reducer; the command gets `out: Output` and `api: APIClient`."""

    @click.option("--url", envvar="FEDN_URL", show_envvar=True, help="Reducer's address, https://host:port.")
    @click.option("--token", envvar="FEDN_TOKEN", show_envvar=True, help="Role token.")
    @click.option(
        "--admin-secret", envvar="FEDN_ALLIANCE_ADMIN_AUTH_TOKEN", show_envvar=True, help="Instead of a token."
    )
    @click.option(
        "--ca", envvar="FEDN_CA", show_envvar=True, type=click.Path(path_type=Path), help="The federation's ca.crt."
    )
    @click.option(
        "--context",
        envvar="FEDN_CONTEXT",
        show_envvar=True,
        type=click.Path(path_type=Path),
        help="File that says all of these (admin.json).",
    )
    @json_option
    @functools.wraps(command)
    def wrapped(
        *args: Any,
        url: str | None,
        token: str | None,
        admin_secret: str | None,
        ca: Path | None,
        context: Path | None,
        **kwargs: Any,
    ) -> Any:
        with connect(url=url, token=token, admin_secret=admin_secret, ca=ca, context=context) as api:
            return command(*args, api=api, **kwargs)

    return wrapped  # type: ignore[return-value]


def connect(
    *, url: str | None, token: str | None, admin_secret: str | None, ca: Path | None, context: Path | None
) -> APIClient:
    """A client for the reducer that the flags, or else a context file, name.

    Raises:
        InvalidInput: (`no_reducer_named`) nothing names one; (`bad_context`) the context file is none.
    """
    known: Context | None = None
    if context is not None:
        known = read_context(context)
    elif url is None:
        found = next((file for file in CONTEXT_FILES if file.exists()), None)
        if found is None:
            raise InvalidInput(
                "no_reducer_named",
                "nothing says which reducer is meant",
                fix="Start one here (fedn sandbox), or give --url, --ca and --token or --admin-secret "
                "(FEDN_URL, FEDN_CA, FEDN_TOKEN, FEDN_ALLIANCE_ADMIN_AUTH_TOKEN), or --context admin.json.",
            )
        known = read_context(found)
    # A context's secret belongs to the address in it: another address gets nothing of it.
    if known is not None and url is not None and url.rstrip("/") != known.url.rstrip("/"):
        known = None
    address = url or (known.url if known else "")
    if known is not None:
        ca = ca or known.ca_file
        admin_secret = admin_secret or known.admin_secret
    return APIClient(address, token=token, ca=ca, admin_secret=None if token else admin_secret)
