"""`fedn status`: the federation at a glance."""

import click

from fedn.api.client import APIClient
from fedn.cli.connection import reducer_options
from fedn.cli.output import Output, when


@click.command()
@reducer_options
def status(api: APIClient, out: Output) -> None:
    """What the federation does right now."""
    view = api.status()
    if out.json:
        out.data(view)
        return
    out.pairs(
        {
            "federation": view.federation,
            "reducer": f"{api.url}, fedn {view.version}, started {when(view.started_at)}",
            "state": f"running session {view.session}" if view.session else view.state,
            "combiners": f"{view.combiners_alive} alive of {view.combiners}",
            "clients": f"{view.clients_attached} attached of {view.clients} enrolled",
            "trail": f"{view.trail_length} entries",
            "model": view.model_id,
            "package": view.package_id,
            **{f"{name} store": store.message or store.state for name, store in view.stores.items()},
        }
    )
    for hint in _hints(view.combiners_alive, view.clients_attached, view.trail_length):
        click.echo(f"{click.style('next:', fg='green')} {hint}")


def _hints(combiners: int, clients: int, entries: int) -> list[str]:
    if not combiners:
        return ["no combiner yet: `fedn token create` here, then `fedn combiner start --join …` there"]
    if not clients:
        return ["no client yet: `fedn token create` here, then `fedn client start --join …` where data is"]
    if not entries:
        return ["no model yet: fedn model seed FILE"]
    return []
