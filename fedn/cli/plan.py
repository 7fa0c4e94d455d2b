"""`fedn plan`: what a session's plan may say."""

import inspect
import re
from typing import Any

import click

from fedn.cli.connection import json_option
from fedn.cli.lazy import LazyGroup
from fedn.cli.output import Output
from fedn.plan.options import GROUPS, list_options
from fedn.plan.session import SessionPlan

EXAMPLE = """\
# A plan for: fedn session start --plan plan.yaml
# Whatever is left out has its default: fedn plan fields
rounds: 10
helper: numpy               # what turns models into tensors: fedn plan options
clients_required: 3         # updates without which a round is not committed
round_timeout_s: 180        # then a round closes with the updates that are in
validate: true              # clients validate each global model
parameters:                 # for the code that trains
  epochs: 1
  learning_rate: 0.1
"""


COMMANDS = {
    "fields": ("fedn.cli.plan:fields", "Every field of a plan with its default."),
    "options": (
        "fedn.cli.plan:options",
        "Everything that a plan chooses by name and that is installed here.",
    ),
    "example": ("fedn.cli.plan:example", "A plan to start from: fedn plan example > plan.yaml"),
    "check": ("fedn.cli.plan_check:check", "Say everything that is wrong with a plan file; nothing is started."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def plan() -> None:
    """Plans: every choice of a session, in a YAML file or as flags of `fedn session start`."""


@click.command()
@json_option
def fields(out: Output) -> None:
    """Every field of a plan with its default."""
    rows = plan_fields()
    if out.json:
        out.data(rows)
        return
    for row in rows:
        click.secho(f"{row['field']}", bold=True, nl=False)
        click.echo(f"  [default: {_shown(row['default'])}]")
        if row["about"]:
            click.echo(f"    {row['about']}")


@click.command()
@json_option
def options(out: Output) -> None:
    """Everything that a plan chooses by name and that is installed here."""
    found = {what: list_options(group) for what, group in GROUPS.items()}
    if out.json:
        out.data(found)
        return
    rows = [(kind, name, text) for kind, names in found.items() for name, text in names.items()]
    out.table(("field", "name", "what it is"), rows, empty="Nothing is installed.")


@click.command()
def example() -> None:
    """A plan to start from: fedn plan example > plan.yaml"""
    click.echo(EXAMPLE, nl=False)


def plan_fields() -> list[dict[str, Any]]:
    """`field`, `default` and `about` (a sentence, may be empty) of each field of a plan."""
    # The sentence under each field in the plan's own source, which is where it is kept.
    found = re.findall(r'^    (\w+): [^\n]*\n    """(.*?)"""', inspect.getsource(SessionPlan), re.MULTILINE | re.DOTALL)
    notes = {name: " ".join(text.split()) for name, text in found}
    return [
        {
            "field": field.alias or name,
            "default": field.get_default(call_default_factory=True),
            "about": notes.get(name, ""),
        }
        for name, field in SessionPlan.model_fields.items()
    ]


def _shown(default: Any) -> str:
    if hasattr(default, "name"):
        return str(default.name)
    return "none" if default is None else str(default)
