"""The target `ssh`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ..parts import Kind, derived, form

HostName = Annotated[
    str,
    Meta(
        pattern=r"^([A-Za-z0-9._-]+@)?[A-Za-z0-9_\[][A-Za-z0-9._:\]-]*$(?!\n)",
        extra_json_schema=form("a machine such as `node1` or `user@10.0.0.1`"),
    ),
]


class Ssh(Kind, frozen=True, tag="ssh"):
    """Machines that are reached with ssh, one node each; the job's files are copied there."""

    hosts: Annotated[
        Annotated[tuple[HostName, ...], Meta(min_length=1)] | None,
        Meta(
            description="Machines, as ssh knows them: `name` or `user@name`.",
            extra_json_schema=derived("the file that `hosts_file` names"),
        ),
    ] = None
    hosts_file: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="File with one machine a line, relative to the job file's folder; `#` begins a comment."),
    ] = None
    config: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="Configuration file of ssh, relative to the job file's folder; unset is ssh's own."),
    ] = None
    port: Annotated[
        Annotated[int, Meta(ge=1, le=65535)] | None, Meta(description="Port of the ssh servers; unset is ssh's choice.")
    ] = None
    jump: Annotated[
        Annotated[str, Meta(min_length=1)] | None, Meta(description="Machine through which the others are reached.")
    ] = None
    connect_timeout: Annotated[
        int, Meta(ge=1, le=3600, description="Seconds that a machine may take to answer when it is called.")
    ] = 10
    folder: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9._/][A-Za-z0-9._/-]*$(?!\n)",
            description="Folder on the machines that the job's files are copied to, relative to the home folder there.",
            extra_json_schema=form("a path of letters, digits, `.`, `_`, `-` and `/`, without `~`"),
        ),
    ] = ".jobc"
    exclude: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(
            description="Files and folders that are not copied, by patterns as in a .gitignore (`*.pt`, `data/raw`); a"
            " file .jobcignore in the job's folder says more."
        ),
    ] = (".git", ".venv", "__pycache__", "*.pyc", "node_modules", "checkpoints", "*.pt", "*.safetensors")
    ssh_args: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(description="Further options of every ssh, passed on exactly as written."),
    ] = ()
    rsync_args: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(description="Further options of the rsync that copies the files, passed on exactly as written."),
    ] = ()
