"""`fedn session`: training runs."""

from pathlib import Path
from typing import Any

import click

from fedn.api.client import APIClient
from fedn.api.progress import SessionProgress, follow_session
from fedn.cli.connection import reducer_options
from fedn.cli.failures import Status
from fedn.cli.output import Output, duration, metrics, short_id, when
from fedn.cli.session_files import accounting, export, find_session, log
from fedn.cli.session_statistics import statistics
from fedn.plan.plan_file import make_plan, parse_values, read_plan
from fedn.protocol.rest import RoundView, SessionView
from fedn.protocol.rounds import LedgerEntry, RoundKind


@click.group()
def session() -> None:
    """Sessions: runs of many rounds. Where SESSION may be left out, the latest one is meant."""


@session.command()
@click.option("--plan", "plan_file", type=click.Path(path_type=Path), help="YAML file; see `fedn plan example`.")
@click.option("--name", help="For people; need not be unique.")
@click.option("--rounds", type=int, help="Rounds to train.")
@click.option("-p", "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="For the clients' code.")
@click.option("--set", "fields", multiple=True, metavar="FIELD=VALUE", help="Any field of the plan.")
@click.option("--watch/--no-watch", default=True, help="Show it until it ends, or return at once.")
@reducer_options
@click.pass_context
def start(
    context: click.Context,
    plan_file: Path | None,
    name: str | None,
    rounds: int | None,
    parameters: tuple[str, ...],
    fields: tuple[str, ...],
    watch: bool,
    api: APIClient,
    out: Output,
) -> None:
    """Start a session, and show it until it ends.

    \b
    fedn session start --rounds 20 -p epochs=2 -p learning_rate=0.05
    fedn session start --plan plan.yaml --set clients_required=3

    Flags weigh more than the plan file. Ctrl-C ends the showing, not the session. The exit status is 0 when the session
    finished, and 1 when it failed or was stopped; with --no-watch or --json, when it has started.
    """
    content: dict[str, Any] = {**read_plan(plan_file), **parse_values(fields)}
    if rounds is not None:
        content["rounds"] = rounds
    if parameters:
        content["parameters"] = {**content.get("parameters", {}), **parse_values(parameters)}
    make_plan(content, source=str(plan_file or "flags"))
    started = api.start_session(content, name)
    if out.json:
        out.data(started)
        return
    out.say(f"Session {started.id} has started.")
    if watch:
        context.exit(_watch(api, started.id))


@session.command("list")
@reducer_options
def list_sessions(api: APIClient, out: Output) -> None:
    """All sessions, the latest first."""
    found = api.sessions()
    if out.json:
        out.data(found)
        return
    out.table(
        ("session", "name", "state", "rounds", "started", "model"),
        (
            (
                view.id,
                view.name,
                view.state,
                f"{view.rounds_done}/{view.rounds}",
                when(view.started_at or view.created_at),
                short_id(view.model_id),
            )
            for view in found
        ),
        empty="No session yet. Start one: fedn session start",
    )


@session.command()
@click.argument("name", metavar="[SESSION]", required=False)
@click.option(
    "--round", "number", type=click.IntRange(min=1), help="Show who took part in this round (from 1), and why not."
)
@reducer_options
def show(name: str | None, number: int | None, api: APIClient, out: Output) -> None:
    """A session with its rounds; with --round N, the ledger of that round."""
    view = find_session(api, name)
    if number is not None:
        _show_round(api.round(view.id, number - 1), out)
        return
    rounds = api.rounds(view.id)
    if out.json:
        out.data({"session": view, "rounds": rounds})
        return
    _show_session(api, view, rounds, out)


@session.command()
@click.argument("name", metavar="[SESSION]", required=False)
@reducer_options
@click.pass_context
def watch(context: click.Context, name: str | None, api: APIClient, out: Output) -> None:
    """Show a session until it ends. With --json: one line a state."""
    view = find_session(api, name)
    if out.json:
        last = None
        for last in follow_session(api, view.id):
            out.line(_as_data(last))
        context.exit(Status.OK if last is not None and last.state == "finished" else Status.FAILED)
    context.exit(_watch(api, view.id))


@session.command()
@click.argument("name", metavar="[SESSION]", required=False)
@reducer_options
def stop(name: str | None, api: APIClient, out: Output) -> None:
    """Stop a running session. The round that runs is given up; committed rounds stay."""
    view = api.stop_session(find_session(api, name).id)
    out.data(view) if out.json else out.say(
        f"Session {view.id} is {view.state} after {view.rounds_done} rounds. Go on with: fedn session resume {view.id}"
    )


@session.command()
@click.argument("name", metavar="[SESSION]", required=False)
@click.option("--watch/--no-watch", default=True, help="Show it until it ends, or return at once.")
@reducer_options
@click.pass_context
def resume(context: click.Context, name: str | None, watch: bool, api: APIClient, out: Output) -> None:
    """Go on with a stopped or failed session, after its last committed round."""
    view = api.resume_session(find_session(api, name).id)
    if out.json:
        out.data(view)
        return
    out.say(f"Session {view.id} goes on with round {view.rounds_done + 1} of {view.rounds}.")
    if watch:
        context.exit(_watch(api, view.id))


@session.command()
@click.option("--model", "model_id", help="Model to predict with; by default the head of the trail.")
@click.option("-p", "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="For the clients' code.")
@click.option(
    "--out", "folder", type=click.Path(path_type=Path, file_okay=False), help="Write each client's tensors here."
)
@reducer_options
@click.pass_context
def predict(
    context: click.Context,
    model_id: str | None,
    parameters: tuple[str, ...],
    folder: Path | None,
    api: APIClient,
    out: Output,
) -> None:
    """Let the clients predict with a model, each on its own data.

    \b
    fedn session predict --out predictions     one safetensors file a client

    Clients whose code has no `predict` fail with that reason; see `fedn session show --round 1`.
    """
    view = api.start_predictions(model_id, parameters=parse_values(parameters))
    out.say(f"Session {view.id}: clients predict …")
    for _ in follow_session(api, view.id):
        pass  # to its end
    view = api.session(view.id)
    found = api.predictions(view.id)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for prediction in found:
            api.download_prediction(prediction, folder / f"{prediction.client}.safetensors")
    if out.json:
        out.data({"session": view, "predictions": found})
    else:
        out.table(
            ["client", "bytes", "object"],
            [[one.client, one.size_bytes, short_id(one.object_id)] for one in found],
            empty=view.error.message if view.error is not None else "Nobody predicted anything.",
        )
    context.exit(Status.OK if view.state == "finished" else Status.FAILED)


for _command in (accounting, statistics, export, log):
    session.add_command(_command)


def _watch(api: APIClient, session_id: str) -> Status:
    from fedn.cli.progress import show_session  # heavy: only what shows progress needs rich

    last = show_session(follow_session(api, session_id))
    click.echo(end_of(last))
    return Status.OK if last.state == "finished" else Status.FAILED


def end_of(progress: SessionProgress) -> str:
    """One sentence on how a session ended."""
    done = f"{progress.rounds_done} of {progress.rounds} rounds"
    if progress.state == "finished":
        early = f", because {progress.reason}" if progress.rounds_done < progress.rounds and progress.reason else ""
        return f"Finished: {done}{early}."
    because = f": {progress.reason}" if progress.reason else ""
    return f"The session {progress.state} after {done}{because}"


def _as_data(progress: SessionProgress) -> dict[str, Any]:
    return {
        "session": progress.session,
        "state": progress.state,
        "reason": progress.reason,
        "rounds": progress.rounds,
        "rounds_done": progress.rounds_done,
        "activity": progress.activity,
        "lines": [vars(line) for _, line in sorted(progress.lines.items())],
    }


def _show_session(api: APIClient, view: SessionView, rounds: list[RoundView], out: Output) -> None:
    progress = SessionProgress(view.id, rounds=view.rounds)
    progress.start_from(api)
    pairs: dict[str, object] = {
        "session": view.id,
        "name": view.name,
        "state": view.state,
        "rounds": f"{view.rounds_done} of {view.rounds}",
        "started": when(view.started_at),
        "ended": when(view.ended_at),
        "model": view.model_id,
    }
    if view.error:
        pairs["error"] = f"{view.error.message} [{view.error.code}]"
        pairs["fix"] = view.error.fix
    out.pairs(pairs)
    click.echo()
    out.table(
        ("round", "state", "attempt", "updates", "time", "training", "validation"),
        (
            (
                _name_of(item, view),
                item.state,
                item.attempt + 1,
                f"{sum(entry.state == 'updated' for entry in item.ledger)}/{len(item.cohort)}",
                duration(item.ended_at - item.started_at) if item.ended_at else "",
                metrics(item.metrics) if item.kind is not RoundKind.VALIDATE else "",
                metrics(_validation(item, progress)),
            )
            for item in sorted(rounds, key=lambda item: item.started_at)
        ),
        empty="No round has begun.",
    )


def _validation(item: RoundView, progress: SessionProgress) -> dict[str, float]:
    """What clients found: in a round of validation, or of the model that this round made."""
    if item.kind is RoundKind.VALIDATE:
        return item.metrics
    return progress.lines[item.index].validation if item.index in progress.lines else {}


def _name_of(item: RoundView, view: SessionView) -> object:
    """A round's number from 1; of those around the training, what they are for."""
    if item.kind is view.kind:
        return item.index + 1
    return {RoundKind.INIT: "first model", RoundKind.VALIDATE: "last validation"}.get(item.kind, item.kind)


def _show_round(view: RoundView, out: Output) -> None:
    if out.json:
        out.data(view)
        return
    out.pairs(
        {
            "round": f"{view.index + 1} of session {view.session}",
            "state": f"{view.state}, attempt {view.attempt + 1}",
            "cohort": f"{len(view.cohort)} clients",
            "model": view.model_id,
            "times": ", ".join(f"{name} {duration(ms / 1000)}" for name, ms in view.times_ms.items()),
        }
    )
    weights = {part.client: part.weight for model in view.combiner_models for part in model.contributions}
    weights |= {entry.client: entry.weight for entry in view.ledger if entry.weight is not None}
    total = sum(weights.values())
    click.echo()
    out.table(
        ("client", "combiner", "state", "weight", "examples", "encrypted", "reason"),
        (
            (
                entry.client,
                entry.combiner,
                entry.state,
                f"{weights[entry.client] / total:.1%}" if entry.client in weights and total else "",
                entry.metadata.num_examples if entry.metadata else "",
                bool(entry.metadata.key_id) if entry.metadata else "",
                _remark(view, entry),
            )
            for entry in view.ledger
        ),
        empty="Nobody took part.",
    )


def _remark(view: RoundView, entry: LedgerEntry) -> str:
    """Why it became of the client what it did, or what the scheduler made of it."""
    if entry.reason is not None:
        return f"{entry.reason.message} [{entry.reason.code}]"
    budget = view.step_budgets.clients.get(entry.client) if view.step_budgets is not None else None
    if budget is not None:
        return f"{budget.steps} steps"
    return f"{entry.staleness} commits old" if entry.staleness is not None else ""
