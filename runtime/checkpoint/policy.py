"""What was asked for: where checkpoints go, when they are made, how many are kept. The job's word and the code's."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...spec.findings import FindingsError
from ...spec.resolved import ResolvedSpec
from ...spec.training import Checkpoint
from ..plugins import ProjectConfiguration
from ..settings import contradiction

FOLDER = "checkpoints"


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """The settings of checkpoints, final. `folder` is absolute, `numbered` names them `checkpoint_0` and so on."""

    folder: Path
    numbered: bool = False
    iteration: int = 0
    every_steps: int | None = None
    every_minutes: float | None = None
    keep: int | None = None
    asynchronous: bool = False
    when_busy: Literal["wait", "refuse"] = "wait"
    on_error: Literal["stop", "continue"] = "stop"
    resume: Literal["never", "auto"] = "never"
    on_preemption: Literal["ignore", "save"] = "ignore"


def settle(spec: ResolvedSpec | None, project: ProjectConfiguration) -> Policy:
    """The settings of this process, which stands in the job's `workdir` now.

    Raises:
        FindingsError: J503, the code says another number of checkpoints to keep than the job.
    """
    block = Checkpoint() if spec is None else spec.job.training.checkpoint
    keep = block.keep if project.total_limit is None else project.total_limit
    if spec is not None and keep != block.keep and spec.origin("training.checkpoint.keep").explicit:
        shown = f"total_limit={project.total_limit}"
        found = contradiction("total_limit", shown, "training.checkpoint.keep", block.keep, spec)
        raise FindingsError((found,))
    return Policy(
        folder=_folder(spec, block, project),
        numbered=project.automatic_checkpoint_naming,
        iteration=project.iteration,
        every_steps=block.every_steps,
        every_minutes=block.every_minutes,
        keep=keep,
        asynchronous=block.asynchronous,
        when_busy=block.when_busy,
        on_error=block.on_error,
        resume=block.resume,
        on_preemption=block.on_preemption,
    )


def _folder(spec: ResolvedSpec | None, block: Checkpoint, project: ProjectConfiguration) -> Path:
    here = Path.cwd()
    said = spec is not None and spec.origin("training.checkpoint.folder").explicit
    if project.project_dir is not None and not said:
        return here / Path(project.project_dir).expanduser() / FOLDER
    if spec is None or Path(block.folder).is_absolute():
        return here / block.folder
    # Paths of the document are relative to the job's folder, from which the process went to `workdir`.
    return Path(os.path.normpath(here / os.path.relpath(block.folder, spec.job.workdir)))
