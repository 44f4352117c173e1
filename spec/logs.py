"""The typed model of `logging`: what is shown of what processes write, and where it is kept."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from .parts import Part, form


class Logging(Part, frozen=True):
    """What is shown of what the processes write while they run, and where it is kept."""

    ranks: Annotated[
        tuple[Annotated[int, Meta(ge=0, le=67108863)], ...] | None,
        Meta(description="Processes that are shown while they run, such as `[0]`; unset shows all. Logs have all."),
    ] = None
    tee: Annotated[
        Literal["all", "stdout", "stderr", "none"],
        Meta(description="What of the processes' output is shown while they run, beside being written to their logs."),
    ] = "all"
    prefix: Annotated[
        str,
        Meta(
            pattern=r"^[^\x00-\x1f]{0,200}$(?!\n)",
            description="What stands before each line that is shown; `{rank}` is the number of its process.",
            extra_json_schema=form("one line of at most 200 characters, such as `{rank}: `"),
        ),
    ] = "[{rank}] "
    folder: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(
            description="Folder of this machine in which the logs of each run have a folder of the run's name, relative"
            " to the job file's folder; unset is the run's own folder."
        ),
    ] = None
    role: Annotated[
        Annotated[
            str,
            Meta(
                pattern=r"^[A-Za-z0-9_.-]{1,63}$(?!\n)",
                extra_json_schema=form("letters, digits, `_`, `.` and `-`, at most 63"),
            ),
        ]
        | None,
        Meta(
            description="Name of the processes in torchrun's reports and in their variable ROLE_NAME; unset is"
            " torchrun's `default`."
        ),
    ] = None
