"""`fedn`: the root of the command line, and how it ends."""

import sys
from collections.abc import Sequence

import click

from fedn import __version__
from fedn.cli.failures import Status, report
from fedn.cli.lazy import LazyGroup
from fedn.protocol.errors import FednError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

COMMANDS = {
    "sandbox": ("fedn.cli.sandbox:sandbox", "A whole federation on this machine: train, and watch. Start here."),
    "driver": ("fedn.cli.driver:driver", "One experiment from one file: start or attach, train, end, statistics."),
    "new": ("fedn.cli.new:new", "Make a project of your own that runs as it is."),
    "status": ("fedn.cli.status:status", "What the federation does right now."),
    "session": ("fedn.cli.session:session", "Start, watch and stop training sessions; see who took part."),
    "model": ("fedn.cli.model:model", "Seed, list, download and decrypt global models."),
    "trail": ("fedn.cli.trail:trail", "Show and verify the chain of all global models."),
    "project": ("fedn.cli.project:project", "Upload a project: its package and its seed model."),
    "keys": ("fedn.cli.keys:keys", "Make the key with which data owners encrypt their updates."),
    "package": ("fedn.cli.package:package", "Make and upload the code that clients run."),
    "token": ("fedn.cli.token:token", "Make join strings for new sites."),
    "reducer": ("fedn.cli.reducer:reducer", "Run the reducer, the head of a federation."),
    "combiner": ("fedn.cli.combiner:combiner", "Run a combiner; list and remove them."),
    "client": ("fedn.cli.client:client", "Run a client where data is; check that it would work."),
    "swarm": ("fedn.cli.swarm:swarm", "Thousands of light clients, to load a federation and measure it."),
    "worker": ("fedn.cli.worker:worker", "Worker groups; run the workers of a script."),
    "events": ("fedn.cli.events:events", "What happened, and what happens."),
    "explain": ("fedn.cli.explain:explain_code", "What an error code means, and what to do."),
    "plan": ("fedn.cli.plan:plan", "What a session's plan may say."),
    "store": ("fedn.cli.store:store", "Clean up the model store."),
    "run": ("fedn.cli.run:run", "The same as `reducer|combiner|client start`."),
    "completion": ("fedn.cli.completion:completion", "Completion by TAB for your shell."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="fedn")
def root() -> None:
    """Federated learning: one model, many data sets that never leave their owners.

    \b
    Try it, offline:              fedn sandbox
    A project of your own:        fedn new my-project --framework sklearn
    A real federation:            fedn reducer start      (then: fedn token create)
                                  fedn combiner start --join …
                                  fedn client start --join …

    Commands that talk to a reducer find it by --url (FEDN_URL), or by the context file that a sandbox or a reducer
    started in this directory has written. --json prints data for programs.
    """


def main(args: Sequence[str] | None = None) -> None:
    """Runs one command and exits: see `fedn.cli.failures.Status` for the exit statuses."""
    given = list(sys.argv[1:] if args is None else args)
    sys.exit(run(given))


def run(args: list[str]) -> int:
    """Runs one command and returns its exit status."""
    as_json = "--json" in args
    try:
        result = root.main(args, prog_name="fedn", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return Status.USAGE
    except FednError as error:
        return report(error, as_json=as_json)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return Status.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough (`fedn model list | head`); nothing may be flushed to it any more.
        sys.stdout = sys.stderr
        return Status.OK
    return result if isinstance(result, int) else Status.OK


if __name__ == "__main__":
    main()
