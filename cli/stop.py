"""`jobc stop`: ends a run."""

from __future__ import annotations

import click

from ..spec.findings import FindingsError
from .common import fail
from .runs import opened, run_argument, verb


@click.command("stop", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--no-wait", is_flag=True, help="Ask it to end and return at once.")
@run_argument
def command(run: str, *, no_wait: bool) -> int:
    """End a run with the steps that its plan has for that, and wait until it has ended."""
    from ..executor.record import UNDERWAY
    from ..executor.registry import record_of
    from .wait import until_ended

    try:
        run_dir, record, plan = opened(run)
        if record.state not in UNDERWAY:
            click.echo(f"{record.run_id} does not run: it is {record.state}", err=True)
            return 0 if record.state != "lost" else 1
        code = verb(plan, run_dir, plan.stop)
        if code != 0 and record_of(run_dir).state not in {*UNDERWAY, "lost"}:
            code = 0  # it ended before it could be asked to
        if code == 0 and not no_wait:
            ended = until_ended(run_dir)
            click.echo(f"{ended.run_id} {ended.state}", err=True)
    except FindingsError as error:
        return fail(error)
    except KeyboardInterrupt:
        return 130
    return code
