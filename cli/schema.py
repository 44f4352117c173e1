"""`jobc schema`: the published JSON Schemas of a job and of a plan."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click


@click.command("schema", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write it to a file instead, all at once or not at all.",
)
@click.option("--plugins", is_flag=True, help="With the targets and launchers that installed packages give.")
@click.argument("what", type=click.Choice(["job", "plan"]), default="job")
def command(output: Path | None, what: str, *, plugins: bool) -> int:
    """Print the JSON Schema of a job, for editors and other tools, or that of a plan.

    An editor with a YAML language server completes and checks a job that names the file in its first line:
    # yaml-language-server: $schema=job.schema.json
    """
    from ..spec.shape import SCHEMA_FILE

    text = SCHEMA_FILE.with_name(f"{what}.schema.json").read_text(encoding="utf-8")
    if plugins and what == "job":
        from ..spec.findings import FindingsError
        from .common import fail

        try:
            text = _with_plugins()
        except FindingsError as error:
            return fail(error)
    if output is None:
        click.echo(text, nl=False)
        return 0
    try:
        _replace(output, text)
    except OSError as error:
        click.echo(f"Error: `{output}` cannot be written: {error.strerror}", err=True)
        return 2
    return 0


def _with_plugins() -> str:
    """The schema of a job with what installed packages add.

    Raises:
        FindingsError: J360 to J362, one of them cannot be used.
    """
    import json

    from ..spec import plugins, shape
    from ..spec.findings import FindingsError

    wrong = [finding for field in plugins.GROUPS for finding in plugins.learn_all(field)]
    if wrong:
        raise FindingsError(tuple(wrong))
    return json.dumps(shape.job_schema(), indent=2, ensure_ascii=False) + "\n"


def _replace(path: Path, text: str) -> None:
    """Writes beside the file and then takes its place, so that no reader sees half of it."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
