"""The root command, and what all commands share."""

from __future__ import annotations

import importlib
import io
import os
import sys
from typing import Any

import click

_COMMANDS = {
    "plan": "Show the complete launch plan of a job without running it.",
    "run": "Run a job exactly as its plan says.",
    "diff": "Show what two jobs, plans or runs do differently.",
    "ps": "Show the runs of this machine.",
    "status": "Show how a run is doing.",
    "logs": "Show what the processes of a run wrote.",
    "stop": "End a run.",
    "wait": "Wait until a run has ended.",
    "rerun": "Run the plan of an earlier run once more, or its job with other values.",
    "clean": "Remove the records and logs of runs that have ended.",
    "checkpoint": "Look at checkpoints without loading them.",
    "check": "Check a job and show what is wrong with it.",
    "explain": "Show where every value of a job comes from, or explain a field or a finding.",
    "schema": "Print the JSON Schema of a job or of a plan, for editors and other tools.",
    "completion": "Print the script that completes jobc's commands and overrides in a shell.",
}


class _Commands(click.Group):
    """Commands by name, each imported when it is called; their one-line helps are known without."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"{__package__}.{cmd_name}").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches

            near = get_close_matches(name, _COMMANDS, n=1)
            hint = f" Did you mean `{near[0]}`?" if near else f" Commands: {', '.join(_COMMANDS)}."
            ctx.fail(f"No such command `{name}`.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from .. import __version__

        click.echo(f"jobc {__version__}")
        ctx.exit()


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version.",
)
def app() -> None:
    """Plan and run PyTorch training from one document.

    A job is a file, job.yaml or job.toml. Overrides follow it: jobc run job.yaml precision=bf16 nodes=2
    """


def run_app() -> int:
    """The whole command line; findings go to stderr, and bad input never shows a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # paths are bytes, and are printed as the bytes they are
    asked = os.environ.get("_JOBC_COMPLETE")
    if asked is not None:
        from .shells import answer

        return answer(asked)
    try:
        code = app.main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`jobc plan ... | head`). Python would complain again while it flushes.
        sys.stdout = None
        return 141
    return code if isinstance(code, int) else 0
