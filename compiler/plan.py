"""The launch plan: complete, frozen data that says everything a run will do.

A plan names what is only known when it runs by a placeholder (`Ref`), a typed segment that no text of a user can
imitate. Its canonical JSON and its digest are the same on every machine.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from typing import Any, Literal

import msgspec

from ..spec.findings import Finding
from ..spec.parts import FrozenDict, freeze

FORMAT = 1

#: What the executor supplies. `spec` is the plan's own resolved document as JSON, `packed_spec` the same as `JOBC_SPEC`
#: carries it where no disk is shared, `pid` the executor's process id, `secret` the value of a variable, `inherited`
#: what the starter of this process said of its place, in torch's names, `run_word` the run's id as one label of a DNS
#: name, `captured` what a step read from a command's output, `earlier` the `job_id` that an earlier run captured,
#: `element` the folder of a run that is submitted together with others, by its place among them. In commands of nodes,
#: `node` is the number of the node, `host` its name, `head` the address of the first node, `rank` the number in the job
#: of one of its processes.
Name = Literal[
    "run_id",
    "run_word",
    "run_dir",
    "project_dir",
    "python",
    "port",
    "spec",
    "packed_spec",
    "pid",
    "secret",
    "inherited",
    "captured",
    "earlier",
    "element",
    "node",
    "host",
    "head",
    "rank",
]


class Ref(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A placeholder: the name of a value that is known only when the plan runs.

    `name` is the variable of a `secret` or an `inherited` place, what was `captured`, the `earlier` run, or the number
    of an `element`; `local` the place of a `rank` among the processes of its node. `quote` asks for the value as one
    word of a POSIX shell.
    """

    ref: Name
    name: str = ""
    local: int = 0
    quote: bool = False


#: A piece of text with placeholders in it; a plain string has none.
Text = str | tuple[str | Ref, ...]
Argv = tuple[Text, ...]


class Command(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A program to start: its argument vector, the variables that jobc adds, and the folder it starts in.

    `ranks` are the processes that it is or that it starts: in a group of nodes by their place on the node, elsewhere
    by their number in the job. `output` says where they write: `inherit` keeps the terminal of the caller, `capture`
    sends the command's own output to files of its rank, `torchelastic` says that the command is a torchrun agent which
    does that for its workers itself, `tagged` that its lines are captured and carry their ranks already, `deepspeed`
    that it is DeepSpeed's launcher, with such lines. Inherited variables whose name starts with one of `unset` are
    taken away, because they would change the command behind the plan's back. `stdin` is written to the command's input,
    which stays open: its end asks the command to end. `host` is the machine that it reaches, where that is not this
    one.
    """

    argv: Argv
    stdin: Text | None = None
    host: Text | None = None
    env: dict[str, Text] = msgspec.field(default_factory=dict[str, Text])
    cwd: Text | None = None
    ranks: tuple[int, ...] = ()
    output: Literal["inherit", "capture", "torchelastic", "tagged", "deepspeed", "elsewhere"] = "inherit"
    unset: tuple[str, ...] = ()
    title: str | None = None

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "env", FrozenDict(self.env))


class NodeGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Machines that do the same, `count` of them numbered from `first` on, each with so many processes.

    `hosts` are their names in this order, empty where something else chooses them. The commands are written once, with
    the placeholders `node`, `host` and `rank`, so that a plan for thousands of machines is as small as one for two.
    """

    first: int
    count: int
    hosts: tuple[str, ...] = ()
    processes: int
    commands: tuple[Command, ...]

    @property
    def numbers(self) -> range:
        """The numbers of the machines in the job."""
        return range(self.first, self.first + self.count)


class WriteFile(msgspec.Struct, frozen=True, kw_only=True, tag="write", tag_field="kind"):
    """Write a file, to a temporary name first, then renamed. `mode` holds the permission bits."""

    path: Text
    content: Text
    mode: int = 0o644


class PackFiles(msgspec.Struct, frozen=True, kw_only=True, tag="pack", tag_field="kind"):
    """Pack files of the job's folder, named from there, into a .tar.gz that is the same on every machine and day."""

    path: Text
    files: tuple[str, ...]


class Capture(msgspec.Struct, frozen=True, kw_only=True):
    """A name for what the first group of a regular expression (Python's `re`, multiline) finds in an output."""

    name: str
    pattern: str


class RunCommand(msgspec.Struct, frozen=True, kw_only=True, tag="run", tag_field="kind"):
    """Run a command on this machine and wait for it, at most `timeout` seconds.

    What `captures` find in its output fills placeholders of later steps; the output is shown on stderr.
    """

    command: Command
    timeout: float | None = None
    captures: tuple[Capture, ...] = ()


#: How a run is doing that something else carries out.
Standing = Literal["pending", "running", "succeeded", "failed", "stopped"]


class CallApi(msgspec.Struct, frozen=True, kw_only=True, tag="call", tag_field="kind"):
    """Call an operation of a service's API, of one `region` where the service has several.

    `request` is JSON whose texts may have placeholders: an object with the one key `text` is a list of pieces, each a
    string or a placeholder, and one with the key `file` is the content of the file whose path is such a list.
    `captures` are members of the response by the name that later steps call them. Where the response says how a run is
    doing, `member` is the word, which `states` translate; it is called again `every` so many seconds until that ends.
    """

    service: str
    operation: str
    region: str | None = None
    request: dict[str, Any]
    captures: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    member: str | None = None
    states: dict[str, Standing] = msgspec.field(default_factory=dict[str, Standing])
    every: float | None = None

    def __post_init__(self) -> None:
        for name in ("request", "captures", "states"):
            msgspec.structs.force_setattr(self, name, freeze(getattr(self, name)))


class Report(msgspec.Struct, frozen=True, kw_only=True, tag="report", tag_field="kind"):
    """Run a command whose output says how a run is doing; again every so many seconds until it has ended, if `every`.

    `pattern` is a regular expression (Python's `re`, multiline) with the group `word`, which `states` translate, and
    perhaps a group `code`, the exit code. No match, or a word that is not in `states`, says nothing new.
    """

    command: Command
    pattern: str
    states: dict[str, Standing]
    every: float | None = None

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "states", FrozenDict(self.states))


class RunForNodes(msgspec.Struct, frozen=True, kw_only=True, tag="each", tag_field="kind"):
    """Run a command on this machine for every node, some at the same time; the first that fails ends the others."""

    command: Command
    at_once: int = 32


class StartNodes(msgspec.Struct, frozen=True, kw_only=True, tag="start", tag_field="kind"):
    """Start the commands of all nodes on this machine, together, and wait; the first that fails ends the others.

    `ports` must be free before anything starts. After `timeout` seconds all are asked to end, then ended. So many
    times as `restarts` says, a node whose command was killed, or whose connection was lost, is started again instead;
    after that the others go on without it, as long as they are at least as many as `least`, if that is not 0.
    """

    ports: tuple[int, ...] = ()
    timeout: float | None = None
    restarts: int = 0
    least: int = 0


Step = WriteFile | PackFiles | RunCommand | RunForNodes | StartNodes | CallApi | Report


class Output(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is shown of what processes write while they run, and where it is kept.

    `ranks` are the processes that are shown, all where there are none, `streams` which of their streams. `prefix`
    stands before each line, with `{rank}` in the place of a number. `folder` takes the place of `logs` in the run's
    folder.
    """

    ranks: tuple[int, ...] | None = None
    streams: tuple[Literal["stdout", "stderr"], ...] = ("stdout", "stderr")
    prefix: str = "[{rank}] "
    folder: Text | None = None


class LaunchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a run does. Every verb of its life is a tuple of steps: `submit`, `status`, `logs`, `stop` and so on.

    `follow` shows what is written as it comes. A plan with `wait` hands the run over to something else, a scheduler,
    which carries it out once it is submitted; `wait` lasts until it has ended. `preflight` are the steps that ask
    machines before a run whether they are fit for it, or a scheduler whether it would take the run: a command whose
    output is `tagged` does the latter, with its exit code. `spec` is the resolved
    document without origins, `origins` where each of its values came from, `secrets` the names of variables that must
    be set before anything starts, `output` what is shown of what processes write. `findings` are warnings and hints; a
    plan with errors is not made. `inputs` are the hashes of files that the job brings along, by their path from the
    job's folder, and `project_dir` is the way to that folder from the file that a saved plan stands in.
    """

    format: int = FORMAT
    name: str
    spec: dict[str, Any]
    origins: dict[str, Any]
    nodes: tuple[NodeGroup, ...]
    submit: tuple[Step, ...]
    status: tuple[Step, ...] = ()
    logs: tuple[Step, ...] = ()
    follow: tuple[Step, ...] = ()
    wait: tuple[Step, ...] = ()
    stop: tuple[Step, ...] = ()
    preflight: tuple[Step, ...] = ()
    secrets: tuple[str, ...] = ()
    output: Output = Output()
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
        return sum(group.count * group.processes for group in self.nodes)

    @property
    def machines(self) -> int:
        """Nodes of the job."""
        return sum(group.count for group in self.nodes)

    def document(self) -> dict[str, Any]:
        """The JSON form of the spec that each process reads: format version, values and origins."""
        return {"format": self.format, "job": self.spec, "origins": self.origins}

    def packed_document(self) -> str:
        """The same as one word, for processes that share no disk: `z:`, then it compressed, in URL-safe base64."""
        return "z:" + base64.urlsafe_b64encode(zlib.compress(canonical(self.document()), 9)).decode()


class Array(msgspec.Struct, frozen=True, kw_only=True):
    """Plans of a sweep that a scheduler takes in one piece, by their place in the sweep.

    Each is a run with a folder of its own, into which it writes its files. What starts them all is `submit`, in place
    of the commands in their own `submit`; its files lie in the folder of the first. `N_I` is the `job_id` of the run at
    the place I, from 0 on, where `submit` captured the `job_id` N.
    """

    plans: tuple[int, ...]
    submit: tuple[Step, ...]


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
        "steps": [plan.submit, plan.status, plan.logs, plan.follow, plan.wait, plan.stop, plan.preflight],
        "secrets": plan.secrets,
        "output": plan.output,
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
