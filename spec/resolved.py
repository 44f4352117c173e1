"""The resolved spec: every value of a job final, typed and frozen, each with its origin."""

from __future__ import annotations

from typing import Any

import msgspec

from .decoding import job_of
from .findings import Finding, FindingsError, Place, finding
from .model import Job
from .parts import FrozenDict
from .tree import DEFAULT, Origin

FORMAT = 1

_SAME_VERSION = "start the job with `jobc run`, with the same version of jobc here and in the process"


class Beaten(msgspec.Struct, frozen=True):
    """A value that a later layer replaced or a choice of kind dropped."""

    path: str
    value: Any
    origin: Origin


class ResolvedSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A job with nothing left to decide.

    `origins` maps the path of every value that is not a mere default (`nodes.count`, `args[0]`) to where it came
    from. `beaten` lists values that lost, oldest first; `dropped` those that no longer apply because another kind was
    chosen. `project_dir` is the absolute folder of the job file: where relative paths start, known on this machine
    only and part of no plan.
    `places` are the origins with the lines they point at, for findings of later stages.
    """

    job: Job
    origins: dict[str, Origin]
    beaten: tuple[Beaten, ...] = ()
    dropped: tuple[Beaten, ...] = ()
    findings: tuple[Finding, ...] = ()
    project_dir: str = "."
    places: dict[str, Place] = msgspec.field(default_factory=dict[str, Place])

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "origins", FrozenDict(self.origins))
        msgspec.structs.force_setattr(self, "places", FrozenDict(self.places))

    def origin(self, path: str) -> Origin:
        """Where the value at a path, or the block it lies in, came from; `default` when nobody set it."""
        while path:
            found = self.origins.get(path) or self.origins.get(f"{path}[0]")
            if found is not None:
                return found
            path = path.rpartition(".")[0]
        return DEFAULT

    def place(self, path: str) -> Place | None:
        """The place of an explicit value for a finding; None for one that nobody wrote."""
        while path and path not in self.places:
            path = path.rpartition(".")[0]
        return self.places.get(path)

    def values(self) -> dict[str, Any]:
        """The job as plain data, `kind` in every block that has one."""
        return msgspec.to_builtins(self.job)

    def document(self) -> dict[str, Any]:
        """The JSON form that a process reads through `JOBC_SPEC`: format version, values, origins."""
        return {"format": FORMAT, "job": self.values(), "origins": msgspec.to_builtins(self.origins)}


class SpecDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What lies behind `JOBC_SPEC`."""

    format: int
    job: dict[str, Any]
    origins: dict[str, Origin] = msgspec.field(default_factory=dict[str, Origin])


def decode_document(raw: bytes, source: str) -> ResolvedSpec:
    """The spec that `ResolvedSpec.document` wrote.

    Raises:
        FindingsError: J502, the bytes are not a spec of a format that this version reads.
    """
    try:
        found = msgspec.json.decode(raw, type=SpecDocument)
        job = job_of(found.job)
    except msgspec.MsgspecError as error:
        raise FindingsError((unreadable(source, str(error), _SAME_VERSION),)) from error
    if found.format != FORMAT:
        why = f"format {found.format}, this jobc reads format {FORMAT}"
        raise FindingsError((unreadable(source, why, _SAME_VERSION),))
    return ResolvedSpec(job=job, origins=found.origins)


def unreadable(source: str, why: str, next_step: str) -> Finding:
    """J502: a process cannot read the document of its run."""
    cause = f"the resolved document of this run cannot be read: {why}"
    return finding("J502", cause, place=Place(source=source), next_step=next_step)
