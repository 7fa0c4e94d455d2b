"""`fedn keys`: the key with which data owners encrypt what servers add up."""

from pathlib import Path

import click

from fedn.cli.connection import json_option
from fedn.cli.output import Output

_DEFAULT_DEGREE = 4096


@click.group()
def keys() -> None:
    """The key that data owners share, so that servers add their updates and cannot read them. Needs 'fedn[secagg]'."""


@keys.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--degree",
    type=click.Choice(["2048", "4096", "8192"]),
    default=str(_DEFAULT_DEGREE),
    show_default=True,
    help="Of its polynomials; as many values are in a ciphertext. 2048: for models of some 500 to 1,600 parameters.",
)
@json_option
def create(file: Path, degree: str, out: Output) -> None:
    """Make a key and write it to FILE, which only its owner may read (mode 600).

    One data owner does so, and gives the file to the other owners, never to who runs a server: whoever has it can read
    every update. Without it nobody can read the models: keep a copy.

    \b
        fedn keys create federation.key
        fedn client start --encryption-key federation.key --join fedn1.…
    """
    from fedn.privacy.keys import create_key, write_key  # heavy: only this command needs it

    key = create_key(int(degree))
    write_key(key, file)
    _tell(file, key.key_id, key.degree, out)


@keys.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@json_option
def show(file: Path, out: Output) -> None:
    """Say a key's id, which plans name, and its degree; nothing secret."""
    from fedn.privacy.keys import read_key  # heavy: only this command needs it

    key = read_key(file)
    _tell(file, key.key_id, key.degree, out)


def _tell(file: Path, key_id: str, degree: int, out: Output) -> None:
    if out.json:
        out.data({"file": str(file), "key_id": key_id, "degree": degree})
        return
    options = f"key_id: '{key_id}'" + (f", degree: {degree}" if degree != _DEFAULT_DEGREE else "")
    out.pairs({"file": file, "key id": key_id, "degree": degree})
    click.echo(f"\nIn a plan:\n  rule: {{name: secagg, options: {{{options}}}}}")
