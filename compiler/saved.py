"""Plans as files: written by `jobc plan -o`, run by `jobc run` as they are."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec

from ..spec import Finding, FindingsError, Place, ResolvedSpec, finding
from ..spec.decoding import job_of
from ..spec.tree import Origin
from ..spec.untyped import as_dict
from .plan import FORMAT, LaunchPlan, canonical, digest

#: What the name of a saved plan ends with; job files end otherwise.
SUFFIX = ".json"


def to_file(plan: LaunchPlan, path: Path, project_dir: Path) -> bytes:
    """What stands in the file of a saved plan: its JSON, keys sorted, one value a line, so that files can be compared.

    The way from the file to the job's folder is kept relative, so that the two may move together.
    """
    folder = os.path.relpath(project_dir, path.absolute().parent)
    saved = msgspec.structs.replace(plan, project_dir=folder.replace(os.sep, "/"))
    return msgspec.json.format(canonical(saved), indent=2) + b"\n"


def from_file(raw: bytes, shown: str) -> LaunchPlan:
    """The plan in a file's content, exactly as it was written; `shown` is how the file is called.

    Raises:
        FindingsError: J405, it is no plan, one of another format, or one that was changed.
    """
    try:
        found: Any = msgspec.json.decode(raw)
        block = as_dict(found) or {}
        if block.get("format") != FORMAT and "digest" in block:
            why = f"it has format {block.get('format')}, and this jobc reads format {FORMAT}"
            raise FindingsError((not_a_plan(shown, why),))
        plan = msgspec.convert(found, LaunchPlan)
        job_of(plan.spec)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FindingsError((not_a_plan(shown, str(error)),)) from error
    if block.get("digest") != digest(plan):
        raise FindingsError((not_a_plan(shown, "it was changed after it was written: its digest is another one"),))
    return plan


def spec_of(plan: LaunchPlan, project_dir: Path) -> ResolvedSpec:
    """The resolved spec that a plan was made from, with the findings of both."""
    origins = msgspec.convert(plan.origins, dict[str, Origin])
    job = job_of(plan.spec)
    return ResolvedSpec(job=job, origins=origins, findings=plan.findings, project_dir=str(project_dir))


def changed(plan: LaunchPlan, project_dir: Path, shown: str) -> tuple[Finding, ...]:
    """J406 for each file that is not the one that was planned."""
    found: list[Finding] = []
    for name, planned in plan.inputs.items():
        now = _hash_of(project_dir / name)
        if now != planned:
            what = (
                "is no longer there"
                if now is None
                else f"has changed: {_short(planned)} was planned, now {_short(now)}"
            )
            step = "make the plan anew, or use `jobc run --stale-ok` to run it with the file as it is"
            found.append(finding("J406", f"`{name}` {what}", place=Place(source=shown), next_step=step))
    return tuple(found)


def not_a_plan(shown: str, why: str) -> Finding:
    """J405 for a file."""
    step = "write one with `jobc plan job.yaml -o plan.json`"
    return finding("J405", f"this is no plan that can be run: {why}", place=Place(source=shown), next_step=step)


def _hash_of(path: Path) -> str | None:
    try:
        return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    except OSError:
        return None


def _short(digest_: str) -> str:
    return digest_.removeprefix("sha256:")[:8]
