"""`jobc checkpoint`: what the checkpoints of a run hold, and whether they are whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..spec.findings import Finding, FindingsError, finding
from .common import SETTINGS, config_dir_option, count_errors, fail, show_findings

if TYPE_CHECKING:
    from ..runtime.checkpoint.folders import Entry
    from ..runtime.checkpoint.manifest import Manifest

_JOB = (".yaml", ".yml", ".toml")
_HELP = {"help_option_names": ["-h", "--help"]}
_UNITS = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))

_form = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="For people, or for programs.",
)
_where = click.argument("where", metavar="WHERE", type=click.Path(path_type=str))


@click.group("checkpoint", context_settings=_HELP)
def command() -> None:
    """Look at checkpoints without loading them.

    WHERE is the folder of a checkpoint, a folder of checkpoints, a job file, or a run by its id or `last`.

    \b
    jobc checkpoint ls last                    the checkpoints of the last run
    jobc checkpoint show checkpoints job.yaml  the newest one, and how its job differs from this one
    jobc checkpoint verify checkpoints         every file of every checkpoint compared with its checksum
    """  # noqa: D301 - click reads the control character


@command.command("ls", context_settings=_HELP)
@_form
@_where
def listing(form: str, where: str) -> int:
    """List checkpoints, oldest first."""
    import json

    try:
        found = _entries(where)
    except FindingsError as error:
        return fail(error)
    if form == "json":
        click.echo(json.dumps([_as_data(entry) for entry in found], indent=2))
        return 0
    rows = [("checkpoint", "step", "epoch", "samples", "saved", "size", "by", "")]
    for line in _aligned([*rows, *(_row(entry) for entry in found)]) if found else ["  no checkpoints"]:
        click.echo(line)
    return 0


@command.command("show", context_settings=SETTINGS)
@_form
@config_dir_option
@_where
@click.argument("job", required=False, type=click.Path(path_type=str))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...", type=click.UNPROCESSED)
def show(form: str, config_dirs: tuple[str, ...], where: str, job: str | None, overrides: tuple[str, ...]) -> int:
    """Show a checkpoint, and how its job differs from JOB.

    Of several checkpoints it is the newest one.
    """
    import json

    import msgspec

    from ..runtime.checkpoint import folders, manifest

    try:
        path = _path(where)
        chosen = path if (path / manifest.FILE).exists() else folders.newest(path) or path
        found = manifest.read(chosen)
        changed = None if job is None else _changed(found, job, overrides, config_dirs)
    except FindingsError as error:
        return fail(error)
    if form == "json":
        values = {"path": str(chosen), **msgspec.to_builtins(found)}
        click.echo(json.dumps(values if changed is None else {**values, "changed": changed}, indent=2))
        return 0
    for line in _lines(chosen, found, changed, job):
        click.echo(line)
    return 0


@command.command("verify", context_settings=_HELP)
@_form
@_where
def verify(form: str, where: str) -> int:
    """Compare every file with its checksum.

    The exit code is 2 where one is damaged, else 0. A checkpoint that was never finished is none.
    """
    import json

    try:
        found = [entry for entry in _entries(where, of_one=True) if not entry.unfinished]
    except FindingsError as error:
        return fail(error)
    bad: list[Finding] = []
    results: list[dict[str, Any]] = []
    for entry in found:
        wrong = _findings(entry)
        bad += wrong
        files = 0 if entry.manifest is None else len(entry.manifest.files)
        results.append({"path": str(entry.path), "ok": not wrong, "files": files, "causes": [i.cause for i in wrong]})
        if form == "text" and not wrong:
            click.echo(f"  {entry.path}: {files} files as they were written")
    if form == "json":
        click.echo(json.dumps(results, indent=2))
    else:
        show_findings(tuple(bad), err=False)
        click.echo(count_errors(tuple(bad)) if bad else f"{where}: ok")
    return 2 if bad else 0


# --- what a word names ----------------------------------------------------------------------------------------------


def _path(where: str) -> Path:
    """The folder that a word names: itself, or that of a job or a run.

    Raises:
        FindingsError: there is no such run, or the job is not good.
    """
    if where.endswith(_JOB):
        from .api import load

        spec = load(where)
        return Path(spec.project_dir) / spec.job.training.checkpoint.folder
    if os.sep in where or Path(where).exists():
        return Path(where)
    from .runs import opened

    _, record, plan = opened(where)
    return Path(record.project_dir) / str(plan.spec["training"]["checkpoint"]["folder"])


def _entries(where: str, *, of_one: bool = False) -> list[Entry]:
    from ..runtime.checkpoint import folders, manifest

    path = _path(where)
    if (path / manifest.FILE).exists():
        return [folders.entry(path)]
    found = folders.entries(path)
    if not found and (of_one or not path.is_dir()):
        raise manifest.missing(path)
    return found


def _findings(entry: Entry) -> list[Finding]:
    from ..runtime.checkpoint import folders
    from ..runtime.checkpoint.manifest import damaged
    from ..runtime.checkpoint.verify import faults

    if entry.manifest is None:
        return [] if entry.why is None else [entry.why]
    step = folders.offer(entry.path)
    found = faults(entry.path, entry.manifest)
    return [item for fault in found for item in damaged(fault.path, fault.why, step).findings]


def _changed(found: Manifest, job: str, overrides: tuple[str, ...], config_dirs: tuple[str, ...]) -> dict[str, Any]:
    """The values of a job that are not those of the checkpoint's, each as what it was and what it is."""
    from .api import load

    if found.job is None:
        raise _without_job()
    before = dict(_flat(found.job.values, ""))
    after = dict(_flat(load(job, overrides, config_dirs=config_dirs).values(), ""))
    return {
        path: [before.get(path), after.get(path)]
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    }


def _without_job() -> FindingsError:
    cause = "the checkpoint was saved by a process that no job started, so there is nothing to compare"
    return FindingsError((finding("J522", cause, next_step="leave the job away"),))


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


# --- how it looks ---------------------------------------------------------------------------------------------------


def _row(entry: Entry) -> tuple[str, ...]:
    name, found = entry.path.name, entry.manifest
    if found is None:
        why = "not finished" if entry.unfinished or entry.why is None else entry.why.cause
        return (name, "", "", "", "", "", "", why)
    when = found.time.replace("T", " ").replace("Z", "")
    counts = (str(found.step), str(found.epoch), str(found.samples))
    return (name, *counts, when, _size(found.size), _by(found), "complete")


def _as_data(entry: Entry) -> dict[str, Any]:
    found = entry.manifest
    values: dict[str, Any] = {"path": str(entry.path), "complete": found is not None}
    if found is None:
        return {**values, "unfinished": entry.unfinished, "why": None if entry.why is None else entry.why.cause}
    digest = None if found.job is None else found.job.digest
    counts = {"step": found.step, "epoch": found.epoch, "samples": found.samples}
    made = {"processes": found.made_by.processes, "strategy": found.made_by.strategy}
    return {**values, **counts, "time": found.time, "size": found.size, **made, "job": digest}


def _lines(path: Path, found: Manifest, changed: dict[str, Any] | None, job: str | None) -> Iterator[str]:
    models = [model.kind if model.stored else f"{model.kind} (left to a hook)" for model in found.models]
    tied = [f"{alias} = {name}" for model in found.models for alias, name in model.aliases.items()]
    rows = {
        "checkpoint": str(path),
        "saved": found.time.replace("T", " "),
        "step": f"{found.step}, {found.epoch} epochs done, {found.samples} samples",
        "by": _by(found),
        "versions": ", ".join(f"{name} {version}" for name, version in found.versions.items()),
        "job": "none" if found.job is None else f"{found.job.values.get('name')}, {found.job.digest[:8]}",
        "models": ", ".join(models),
        "tied": ", ".join(tied),
        "optimizers": ", ".join(found.optimizers),
        "schedulers": ", ".join(found.schedulers),
        "loaders": str(found.loaders),
        "objects": ", ".join(found.objects),
        "per process": ", ".join(found.per_rank),
        "files": f"{len(found.files)}, {_size(found.size)}",
    }
    yield from (f"  {name:<12} {value}" for name, value in rows.items() if value)
    if changed is None:
        return
    yield ""
    yield f"  {'the job is that of ' + str(job) if not changed else 'not as in ' + str(job)}"
    for name, (before, after) in changed.items():
        yield f"  - {name}  {_value(before)}"
        yield f"  + {name}  {_value(after)}"


def _value(value: Any) -> str:
    import json

    return "unset" if value is None else json.dumps(value)


def _by(found: Manifest) -> str:
    processes = found.made_by.processes
    return f"{found.made_by.strategy}, {processes} process{'es' if processes != 1 else ''}"


def _size(count: int) -> str:
    for unit, size in _UNITS:
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    numbers = range(1, 4)
    for row in rows:
        cells = [
            text.rjust(width) if column in numbers else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield f"  {'  '.join(cells)}".rstrip()
