"""`fedn worker`: groups of workers at the reducer, and the workers of a script as processes here."""

import click

from fedn.api.client import APIClient
from fedn.cli.connection import reducer_options
from fedn.cli.output import Output, when
from fedn.cli.output import size as in_units
from fedn.cli.worker_run import run


@click.group()
def worker() -> None:
    """Worker-oriented programs: any worker says anything to any other."""


worker.add_command(run)


@worker.group()
def group() -> None:
    """Worker groups: names, sizes, and which client is which rank."""


@group.command()
@click.argument("name")
@click.option("--size", type=click.IntRange(min=1), required=True, help="Workers; their ranks are 0 to SIZE - 1.")
@click.option(
    "--client",
    "clients",
    multiple=True,
    help="Name of a client whose token opens the group, with * for any characters. May be given several times.  "
    "[default: every client]",
)
@reducer_options
def create(name: str, size: int, clients: tuple[str, ...], api: APIClient, out: Output) -> None:
    """Make a group. Its workers then take their places by joining."""
    made = api.create_worker_group(name, size, clients)
    if out.json:
        out.data(made)
        return
    out.say(f"Made the worker group {name} of {size}. Run its workers: fedn worker run SCRIPT --group {name}")


@group.command("list")
@reducer_options
def list_groups(api: APIClient, out: Output) -> None:
    """Groups that the reducer knows."""
    found = api.worker_groups()
    if out.json:
        out.data(found)
        return
    out.table(
        ("name", "size", "given ranks", "attached", "home", "messages", "traffic", "made"),
        (
            (
                view.name,
                view.size,
                len(view.members),
                view.attached,
                view.home,
                view.traffic.sent_messages,
                in_units(view.traffic.sent_bytes),
                when(view.created_at),
            )
            for view in found
        ),
        empty="There is no worker group. Make one: fedn worker group create NAME --size N",
    )


@group.command()
@click.argument("name")
@reducer_options
def show(name: str, api: APIClient, out: Output) -> None:
    """One group: who is which rank, where it meets, and what was relayed."""
    view = api.worker_group(name)
    if out.json:
        out.data(view)
        return
    out.pairs(
        {
            "name": view.name,
            "size": view.size,
            "opened by": ", ".join(view.clients) or "every client",
            "home": view.home,
            "attached": view.attached,
            "relayed": f"{view.traffic.sent_messages} messages, {in_units(view.traffic.sent_bytes)}",
            "sent again": in_units(view.traffic.repeated_bytes),
            "in the spool": in_units(view.traffic.spooled_bytes),
            "made": when(view.created_at),
        }
    )
    click.echo()
    out.table(
        ("rank", "client", "state", "sent", "received", "waiting", "last heard"),
        (
            (
                member.rank,
                member.client,
                member.traffic.state,
                f"{member.traffic.sent_messages} ({in_units(member.traffic.sent_bytes)})",
                f"{member.traffic.received_messages} ({in_units(member.traffic.received_bytes)})",
                in_units(member.traffic.spooled_bytes),
                when(member.traffic.heard_at),
            )
            for member in view.members
        ),
        empty="No rank is given yet.",
    )


@group.command()
@click.argument("name")
@reducer_options
def delete(name: str, api: APIClient, out: Output) -> None:
    """Forget a group and its ranks. Workers that are attached go on."""
    api.delete_worker_group(name)
    out.say(f"Deleted the worker group {name}.")
