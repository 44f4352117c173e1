"""What is shown of what processes write: from the document to the plan, and where nothing can come of it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Literal

from ..spec import Finding, ResolvedSpec, finding
from ..spec.logs import Logging
from ..spec.targets.here import Local
from ..spec.targets.ssh import Ssh
from .launchers import launcher_of
from .launchers.base import joined
from .plan import Output, Ref, Text

_STREAMS: dict[str, tuple[Literal["stdout", "stderr"], ...]] = {
    "all": ("stdout", "stderr"),
    "stdout": ("stdout",),
    "stderr": ("stderr",),
    "none": (),
}
#: Targets whose processes write to files or connections that jobc reads while they run.
_READ = (Local, Ssh)
_SHOWN = ("ranks", "tee", "prefix")


def output(spec: ResolvedSpec) -> Output:
    """What the job says of its output."""
    said = spec.job.logging
    return Output(
        ranks=None if said.ranks is None else tuple(sorted(set(said.ranks))),
        streams=_STREAMS[said.tee],
        prefix=said.prefix,
        folder=_folder(said.folder),
    )


def _folder(folder: str | None) -> Text | None:
    if folder is None:
        return None
    if posixpath.isabs(folder):
        return (f"{folder}/", Ref("run_id"))
    return joined((Ref("project_dir"),), f"/{folder}/", (Ref("run_id"),))


def left_out(spec: ResolvedSpec, patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Patterns of files that do not go where the job runs, and the folder of logs, which stays here."""
    folder = spec.job.logging.folder
    if folder is None or posixpath.isabs(folder) or folder.startswith("..") or folder == ".":
        return patterns
    return (*patterns, f"/{folder}/")


def check(spec: ResolvedSpec) -> Iterator[Finding]:
    """Output that jobc does not see, processes that there are not, and a name that nothing gives."""
    job, said = spec.job, spec.job.logging
    asked = [name for name in (*_SHOWN, "folder") if getattr(said, name) != getattr(_USUAL, name)]
    if not isinstance(job.target, _READ):
        kind = type(job.target).__struct_config__.tag
        for name in asked:
            cause = f"`logging.{name}` has no effect: with `target: {kind}` processes do not write by way of jobc"
            yield finding("J311", cause, place=spec.place(f"logging.{name}"), next_step="remove it")
    elif isinstance(job.target, Local) and job.processes == 1:
        for name in asked:
            cause = f"`logging.{name}` has no effect: one process keeps the terminal"
            cause += ", and only with `jobc run --detach` a log" if name == "folder" else ""
            yield finding("J306", cause, place=spec.place(f"logging.{name}"))
    for index, rank in enumerate(said.ranks or ()):
        if rank >= job.processes:
            cause = f"`logging.ranks` names the process {rank}, and the last one of the job is {job.processes - 1}"
            yield finding("J106", cause, place=spec.place(f"logging.ranks[{index}]"), next_step="ranks begin with 0")
    if said.tee == "none" and said.ranks is not None:
        cause = "`logging.ranks` has no effect: `logging.tee: none` shows no process"
        yield finding("J311", cause, place=spec.place("logging.ranks"), next_step="keep one of them")
    if said.role is not None and not launcher_of(spec).RESTARTS:
        cause = f"`logging.role` has no effect: the launcher `{job.launcher}` gives processes no names"
        step = "use `launcher: torchrun`, or set a variable of your own in `env`"
        yield finding("J311", cause, place=spec.place("logging.role"), next_step=step)


_USUAL = Logging()
