"""`fedn plan check`: apart from the other commands for plans, because codecs bring NumPy along."""

from pathlib import Path

import click

from fedn.cli.connection import json_option
from fedn.cli.output import Output
from fedn.plan.check import check_plan
from fedn.plan.plan_file import make_plan, read_plan


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@json_option
def check(file: Path, out: Output) -> None:
    """Say everything that is wrong with a plan file; nothing is started."""
    checked = check_plan(make_plan(read_plan(file), source=str(file)))
    out.data(checked) if out.json else out.say(f"{file} is a good plan of {checked.rounds} rounds.")
