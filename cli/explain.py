"""`jobc explain`: where every value of a job comes from, what a field means, what a finding means."""

from __future__ import annotations

import re
from typing import NamedTuple

import click

from ..spec.findings import FindingsError, did_you_mean, nearest
from .common import SETTINGS, config_dir_option, explain_arguments, fail, show_findings

_CODE = re.compile(r"[Jj]\d+\Z")
_JOB = (".yaml", ".yml", ".toml")


class Asked(NamedTuple):
    """The words of the command line by what they are."""

    job: str | None
    topic: str | None
    overrides: tuple[str, ...]


@click.command("explain", context_settings=SETTINGS)
@click.option("--only-set", is_flag=True, help="Leave out values that nobody asked for.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="For people (off a terminal one line for each value, in columns set apart by tabs), or for programs.",
)
@config_dir_option
@explain_arguments
def command(form: str, config_dirs: tuple[str, ...], words: tuple[str, ...], *, only_set: bool) -> int:
    """Show where every value of a job comes from, or explain a field or a finding.

    \b
    jobc explain job.yaml                  every value, where it comes from, what it replaced
    jobc explain job.yaml training nodes=2 one block, with an override
    jobc explain paradigm                  what a field means, its kinds, keys and defaults
    jobc explain J103                      what a finding means and what to do
    """  # noqa: D301 - click reads the control character
    asked = read_words(words)
    if asked.job is None:
        if asked.overrides:
            raise click.UsageError(f"`{asked.overrides[0]}` overrides a value, and no job file is named.")
        return _explain_topic(asked.topic, form)
    try:
        return _explain_job(asked.job, asked, form, config_dirs, only_set=only_set)
    except FindingsError as error:
        return fail(error)


def read_words(words: tuple[str, ...]) -> Asked:
    """A job ends in .yaml, .yml or .toml, an override has an `=` or starts with `~`; the rest is a path or a code."""
    jobs = [word for word in words if word.endswith(_JOB) and "=" not in word]
    overrides = tuple(word for word in words if "=" in word or word.startswith("~"))
    topics = [word for word in words if word not in jobs and word not in overrides]
    for several, what in ((jobs, "job files"), (topics, "paths or codes")):
        if len(several) > 1:
            raise click.UsageError(f"`{several[0]}` and `{several[1]}` are two {what}; name one.")
    return Asked(jobs[0] if jobs else None, topics[0] if topics else None, overrides)


def _explain_job(job: str, asked: Asked, form: str, config_dirs: tuple[str, ...], *, only_set: bool) -> int:
    from ..spec.explain import rows, within
    from .api import load
    from .pages import row_lines, rows_as_json

    if asked.topic is not None and _CODE.match(asked.topic):
        return _explain_topic(asked.topic, form)
    found = rows(load(job, asked.overrides, config_dirs=config_dirs))
    if asked.topic is not None:
        item = asked.topic.partition("[")[0]  # a list whose items come from one place is one value
        found = tuple(row for row in found if within(row, asked.topic)) or tuple(
            row for row in found if row.path == item
        )
        if not found:
            raise _unknown_in_job(asked.topic)
    found = tuple(row for row in found if row.is_set or not only_set)
    if form == "json":
        click.echo(rows_as_json(job, found))
    else:
        for line in row_lines(found):
            click.echo(line)
    return 0


def _unknown_in_job(path: str) -> click.UsageError:
    """A path without a value: one that another kind has, or one that does not exist."""
    from ..spec.describe import fields_at

    known = fields_at(path)
    if known:
        kinds = ", ".join(f"`{field.kind}`" for field in known if field.kind)
        block = path.rpartition(".")[0]
        why = f"it belongs to `{block}` of the kind {kinds}" if kinds else "nothing is set below it"
        return click.UsageError(f"This job has no `{path}`: {why}.")
    return _unknown_path(path)


def _unknown_path(path: str) -> click.UsageError:
    from ..spec.describe import fields

    known = [field.path for field in fields()]
    hint = did_you_mean(path, known) or did_you_mean(
        path.rpartition(".")[2], [name.rpartition(".")[2] for name in known]
    )
    return click.UsageError(f"The document has no `{path}`{f'; {hint}' if hint else '.'}")


def _explain_topic(topic: str | None, form: str) -> int:
    from . import pages

    if topic is not None and _CODE.match(topic):
        from ..spec.codes import CODES

        code = topic.upper()
        if code not in CODES:
            near = nearest(code, [known.lower() for known in CODES])
            hint = f"; did you mean `{near.upper()}`?" if near is not None else "."
            raise click.UsageError(f"There is no finding {code}{hint}")
        lines = pages.code_as_json(code) if form == "json" else pages.code_lines(code)
    else:
        from ..spec import plugins
        from ..spec.describe import fields_at

        field = (topic or "").partition(".")[0]
        if field in plugins.GROUPS:
            show_findings(plugins.learn_all(field))
        if topic is not None and topic.startswith(("env.", "vars.")):
            topic = topic.partition(".")[0]  # the names below are the user's own
        if topic is not None and not fields_at(topic):
            raise _unknown_path(topic)
        lines = pages.fields_as_json(topic) if form == "json" else pages.field_lines(topic)
    for line in lines:
        click.echo(line)
    return 0
