"""`fedn session statistics`: where a session's time went."""

from collections.abc import Iterable

import click

from fedn.api.client import APIClient
from fedn.cli.connection import reducer_options
from fedn.cli.output import Output, duration, metrics
from fedn.cli.session_files import find_session
from fedn.protocol.rest import ClientStatistics, RoundStatistics, SessionStatistics, Spread
from fedn.protocol.rounds import RoundKind


@click.command()
@click.argument("name", metavar="[SESSION]", required=False)
@click.option("--round", "number", type=click.IntRange(min=1), help="Show the clients of this round (from 1).")
@reducer_options
def statistics(name: str | None, number: int | None, api: APIClient, out: Output) -> None:
    """Where a session's time went: dispatch, training, aggregation, evaluation, by round; with --round N, by client."""
    session = find_session(api, name).id
    found = api.statistics(session) if number is None else api.round_statistics(session, number - 1)
    if out.json:
        out.data(found)
    elif isinstance(found, RoundStatistics):
        show_round(found, out)
    else:
        show_statistics(found, out)


def show_statistics(found: SessionStatistics, out: Output) -> None:
    """A short report: a line a round, a line a client."""
    out.pairs(
        {
            "session": found.session,
            "state": f"{found.state}{f', because {found.ended_because.message}' if found.ended_because else ''}",
            "asked": f"{found.rounds_asked} rounds",
            "done": f"{found.aggregations} aggregations, {found.evaluations} evaluations",
            "took": _ms(None if found.ended_at_ms is None else found.ended_at_ms - found.started_at_ms),
        }
    )
    click.echo()
    evaluated = {model.made_in_round: model.metrics for model in found.models}
    out.table(
        ("round", "clients", "dispatch", "training", "aggregation", "evaluation", "commit", "round", "model has"),
        (
            (
                each.index + 1 if each.kind is RoundKind.TRAIN else each.kind,
                f"{each.updates}/{each.cohort}",
                _ms(each.dispatch_ms),
                _range(each.train_ms),
                _ms(each.aggregation_ms + sum(part.fold_ms for part in each.combiners)),
                _range(each.validate_ms),
                _ms(each.commit_ms),
                _ms(each.round_ms),
                metrics(evaluated.get(each.index, {})) if each.kind is RoundKind.TRAIN else "",
            )
            for each in found.rounds
        ),
        empty="No round has begun.",
    )
    click.echo()
    out.table(
        ("client", "rounds", "updates", "steps", "training", "evaluation", "busy", "idle"),
        (
            (
                *(each.client, each.rounds, each.updates, each.num_steps),
                *map(_ms, (each.train_ms, each.validate_ms, each.busy_ms, each.idle_ms)),
            )
            for each in found.clients
        ),
        empty="No client was asked.",
    )


def show_round(found: RoundStatistics, out: Output) -> None:
    """A line a client."""
    out.table(
        ("client", "state", "share", "dispatch", "training", "evaluation", "busy", "upload", "idle", "ms/step"),
        _client_rows(found.clients),
        empty="No client was asked.",
    )


def _client_rows(clients: Iterable[ClientStatistics]) -> Iterable[list[object]]:
    for each in clients:
        times = (each.dispatch_ms, each.train_ms or None, each.validate_ms or None)
        ends = (each.busy_ms, each.upload_ms, each.idle_ms)
        share = f"{each.share:.1%}" if each.share else ""
        yield [each.client, each.state, share, *map(_ms, times), *map(_ms, ends), each.ms_per_step or None]


def _ms(value: float | None) -> str:
    return "" if value is None else duration(value / 1e3)


def _range(spread: Spread | None) -> str:
    """From the quickest to the slowest client."""
    if spread is None:
        return ""
    least, most = _ms(spread.least), _ms(spread.most)
    return least if least == most else f"{least} – {most}"
