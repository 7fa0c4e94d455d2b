"""`fedn token`: what lets sites join, and people in."""

import time
from typing import Literal, cast

import click

from fedn.api.client import APIClient
from fedn.cli.connection import reducer_options
from fedn.cli.output import Output, duration


@click.group()
def token() -> None:
    """Join strings for new sites; role tokens for people and programs."""


@token.command()
@click.option("--address", default="", help="The reducer's address as the new site sees it.  [default: its public_url]")
@click.option(
    "--role",
    type=click.Choice(["viewer", "admin"]),
    help="Instead of a join string: a token of this role, for --token (FEDN_TOKEN). Needs the admin secret.",
)
@reducer_options
def create(address: str, role: str | None, api: APIClient, out: Output) -> None:
    """Make the one line that a new combiner or client needs.

    \b
        fedn combiner start --join fedn1.…
        fedn client start --join fedn1.…

    It holds the reducer's address, the fingerprint of its authority and the enrolment secret: hand it over as you
    would a password.
    """
    if role is not None:
        reply = api.buy_token(cast(Literal["admin", "viewer"], role))
        out.data(reply) if out.json else click.echo(reply.token)
        if not out.json:
            click.echo(f"Expires in {duration(reply.expires_at - time.time())}.", err=True)
        return
    joined = api.join_string(address)
    if out.json:
        out.data(joined)
        return
    click.echo(joined.join)
    click.echo(f"For sites that reach the reducer at {joined.url}. Whoever has this line may enrol.", err=True)
