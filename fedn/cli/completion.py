"""`fedn completion`: completion by TAB."""

import click
from click.shell_completion import get_completion_class

_INSTALL = {
    "bash": 'eval "$(fedn completion bash)"        # in ~/.bashrc',
    "zsh": 'eval "$(fedn completion zsh)"         # in ~/.zshrc',
    "fish": "fedn completion fish | source         # in ~/.config/fish/config.fish",
}


@click.command(epilog="\b\n" + "\n".join(_INSTALL.values()))
@click.argument("shell", type=click.Choice(sorted(_INSTALL)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that teaches your shell to complete fedn's commands."""
    kind = get_completion_class(shell)
    if kind is None:
        raise click.ClickException(f"there is no completion for {shell}")
    click.echo(kind(context.find_root().command, {}, "fedn", "_FEDN_COMPLETE").source())
