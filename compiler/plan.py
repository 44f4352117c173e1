"""The launch plan: complete, frozen data that says everything a run will do.

A plan names what is only known when it runs by a placeholder (`Ref`), a typed segment that no text of a user can
imitate. Its canonical JSON and its digest are the same on every machine.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

from ..spec.findings import Finding
from ..spec.parts import FrozenDict, freeze

FORMAT = 1

#: What the executor supplies. `spec` is the plan's own resolved document as JSON, `packed_spec` the same as `JOBC_SPEC`
#: carries it where no disk is shared, `pid` the executor's process id, `secret` the value of a variable.
Name = Literal["run_id", "run_dir", "project_dir", "python", "port", "spec", "packed_spec", "pid", "secret"]


class Ref(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A placeholder: the name of a value that is known only when the plan runs.

    `name` is the variable of a `secret`. `quote` asks for the value as one word of a POSIX shell.
    """

    ref: Name
    name: str = ""
    quote: bool = False


#: A piece of text with placeholders in it; a plain string has none.
Text = str | tuple[str | Ref, ...]
Argv = tuple[Text, ...]


class Command(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A program to start: its argument vector, the variables that jobc adds, and the folder it starts in.

    `ranks` are the processes of the job that it is or that it starts. `output` says where they write: `inherit` keeps
    the terminal of the caller, `capture` sends the command's own output to files of its rank, `torchelastic` says that
    the command is a torchrun agent which does that for its workers itself, `tagged` that its lines are captured and
    carry their ranks already. Inherited variables whose name starts with one of `unset` are taken away, because they
    would change the command behind the plan's back. `stdin` is written to the command's input, which stays open: its
    end asks the command to end. `host` is the machine that it reaches, where that is not this one.
    """

    argv: Argv
    stdin: Text | None = None
    host: Text | None = None
    env: dict[str, Text] = msgspec.field(default_factory=dict[str, Text])
    cwd: Text | None = None
    ranks: tuple[int, ...] = ()
    output: Literal["inherit", "capture", "torchelastic", "tagged"] = "inherit"
    unset: tuple[str, ...] = ()
    title: str | None = None

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "env", FrozenDict(self.env))


class Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One machine: its index, its host where that is known, and the commands that start its processes."""

    index: int
    host: Text
    ranks: tuple[int, ...]
    commands: tuple[Command, ...]


class WriteFile(msgspec.Struct, frozen=True, kw_only=True, tag="write", tag_field="kind"):
    """Write a file, to a temporary name first, then renamed. `mode` holds the permission bits."""

    path: Text
    content: Text
    mode: int = 0o644


class RunCommand(msgspec.Struct, frozen=True, kw_only=True, tag="run", tag_field="kind"):
    """Run a command on this machine and wait for it."""

    command: Command


class RunTogether(msgspec.Struct, frozen=True, kw_only=True, tag="together", tag_field="kind"):
    """Run commands on this machine at the same time and wait for all; the first that fails ends the others."""

    commands: tuple[Command, ...]


class StartNodes(msgspec.Struct, frozen=True, kw_only=True, tag="start", tag_field="kind"):
    """Start the commands of nodes on this machine, together, and wait; the first that fails ends the others.

    `ports` must be free before anything starts. After `timeout` seconds all are asked to end, then ended.
    """

    nodes: tuple[int, ...]
    ports: tuple[int, ...] = ()
    timeout: float | None = None


Step = WriteFile | RunCommand | RunTogether | StartNodes


class LaunchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a run does, and every verb of its life: `submit`, `status`, `logs` and `stop` are tuples of steps.

    `spec` is the resolved document without origins, `origins` where each of its values came from, `secrets` the names
    of variables that must be set before anything starts. `findings` are warnings and hints; a plan with errors is not
    made. `inputs` are the hashes of files that the job brings along, by their path from the job's folder, and
    `project_dir` is the way to that folder from the file that a saved plan stands in.
    """

    format: int = FORMAT
    name: str
    spec: dict[str, Any]
    origins: dict[str, Any]
    nodes: tuple[Node, ...]
    submit: tuple[Step, ...]
    status: tuple[Step, ...] = ()
    logs: tuple[Step, ...] = ()
    stop: tuple[Step, ...] = ()
    secrets: tuple[str, ...] = ()
    inputs: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    project_dir: str = "."
    findings: tuple[Finding, ...] = ()
    digest: str = ""

    def __post_init__(self) -> None:
        for name in ("spec", "origins", "inputs"):
            msgspec.structs.force_setattr(self, name, freeze(getattr(self, name)))
        msgspec.structs.force_setattr(self, "digest", digest(self))

    @property
    def processes(self) -> int:
        """Processes of the whole job."""
        return sum(len(node.ranks) for node in self.nodes)

    def document(self) -> dict[str, Any]:
        """The JSON form of the spec that each process reads: format version, values and origins."""
        return {"format": self.format, "job": self.spec, "origins": self.origins}


def digest(plan: LaunchPlan) -> str:
    """sha256 over what the plan does: values, nodes and steps with the files they write.

    Origins, findings, the hashes of input files and the way to the job's folder are not part of it, so two documents
    that say the same in other words have the same digest.
    """
    said = {
        "format": plan.format,
        "name": plan.name,
        "spec": plan.spec,
        "nodes": plan.nodes,
        "steps": [plan.submit, plan.status, plan.logs, plan.stop],
        "secrets": plan.secrets,
    }
    return hashlib.sha256(canonical(said)).hexdigest()


def canonical(value: object) -> bytes:
    """Canonical JSON: UTF-8, keys sorted, no white space."""
    return msgspec.json.encode(value, order="sorted")


def encode(plan: LaunchPlan) -> bytes:
    """The plan as canonical JSON."""
    return canonical(plan)


def decode(raw: bytes) -> LaunchPlan:
    """The plan that `encode` wrote.

    Raises:
        msgspec.ValidationError: the JSON is not a plan.
    """
    return msgspec.json.decode(raw, type=LaunchPlan)
