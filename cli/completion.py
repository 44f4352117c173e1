"""`jobc completion`: the script that teaches a shell what can follow."""

from __future__ import annotations

import click


@click.command("completion", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> int:
    """Print the script that completes jobc's commands and overrides in a shell.

    \b
    bash   put  eval "$(jobc completion bash)"  into ~/.bashrc
    zsh    put  eval "$(jobc completion zsh)"   into ~/.zshrc, after compinit
    fish   jobc completion fish > ~/.config/fish/completions/jobc.fish
    """  # noqa: D301 - click reads the control character
    from .shells import SHELLS

    click.echo(SHELLS[shell].source_template, nl=False)
    return 0
