"""`jobc diff`: what two jobs, plans or runs do differently."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING

import click

from ..spec.findings import FindingsError
from .common import SETTINGS, config_dir_option, fail

if TYPE_CHECKING:
    from ..compiler.diff import Side

_JOB = (".yaml", ".yml", ".toml")
_DIFFERENT = 1


@click.command("diff", context_settings=SETTINGS)
@click.option("--exit-code", "by_code", is_flag=True, help="Exit with 1 where there is a difference, as git diff does.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="For people, or for programs.",
)
@config_dir_option
@click.argument("words", nargs=-1, metavar="A [KEY=VALUE]... [B] [KEY=VALUE]...", type=click.UNPROCESSED)
def command(form: str, config_dirs: tuple[str, ...], words: tuple[str, ...], *, by_code: bool) -> int:
    """Show what two jobs, saved plans or runs do differently.

    \b
    jobc diff job.yaml precision=bf16           what an override changes
    jobc diff job.yaml other.yaml               two jobs, each with overrides after it
    jobc diff plan.json job.yaml                a saved plan and what the job says today
    jobc diff last job.yaml                     a run and what would run today
    """  # noqa: D301 - click reads the control character
    one, two = read_sides(words)
    from ..compiler.diff import compare

    try:
        before, after = (_side(*side, config_dirs) for side in (one, two))
    except FindingsError as error:
        return fail(error)
    found = compare(before, after)
    if form == "json":
        from ..compiler.difftext import diff_as_data

        click.echo(json.dumps(diff_as_data(found, before, after), indent=2))
    else:
        from ..compiler.difftext import render_diff
        from ..compiler.text import terminal_width

        color = sys.stdout.isatty()
        click.echo(render_diff(found, before, after, color=color, width=terminal_width()), color=color)
    return _DIFFERENT if by_code and not found.empty else 0


Words = tuple[str, tuple[str, ...]]


def read_sides(words: tuple[str, ...]) -> tuple[Words, Words]:
    """The two sides: each a job, a plan or a run with the overrides that follow it.

    One job with overrides is compared with itself without them.
    """
    sides: list[tuple[str, list[str]]] = []
    for word in words:
        if "=" in word or word.startswith("~"):
            if not sides:
                raise click.UsageError(f"`{word}` overrides a value, and no job stands before it.")
            sides[-1][1].append(word)
        else:
            sides.append((word, []))
    found = [(name, tuple(overrides)) for name, overrides in sides]
    if len(found) == 1 and found[0][1]:
        return (found[0][0], ()), found[0]
    if len(found) != 2:
        raise click.UsageError(f"Name two jobs, plans or runs, or one job with overrides; here are {len(found)}.")
    return found[0], found[1]


def _side(name: str, overrides: tuple[str, ...], config_dirs: tuple[str, ...]) -> Side:
    from ..compiler.diff import Side
    from . import saved
    from .api import load, plan

    shown = shlex.join([name, *overrides])
    if name.endswith(_JOB):
        spec = load(name, overrides, config_dirs=config_dirs)
        return Side(shown=shown, spec=spec, plan=plan(spec))
    saved.refuse_overrides(name, overrides)
    planned, spec = saved.read(name) if saved.is_saved(name) else saved.of_run(name)
    return Side(shown=shown, spec=spec, plan=planned)
