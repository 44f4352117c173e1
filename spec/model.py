"""The typed model of a job: every field, its type, its range, its default and the one sentence that explains it.

The JSON Schema, the reference page, the help of the command line and the defaults are all made from this module. A
field without a default that is not required is derived (`resolve.py` says how); its `Meta` says from what.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from .hardware import AutoHardware, Cpu, Gpu, Tpu
from .logs import Logging
from .paradigms import Ddp, DeepSpeed, Fsdp, Megatron, NoParadigm
from .parts import FrozenDict, Part, derived, form, freeze
from .precisions import Bf16, Fp8, Fp16, FullPrecision
from .targets import Target
from .targets.here import Local
from .training import Training

# --- nodes and target -----------------------------------------------------------------------------------------------


ConfName = Annotated[
    str,
    Meta(pattern=r"^[a-z_]+$(?!\n)", extra_json_schema=form("a name such as `join_timeout`")),
]


class Rendezvous(Part, frozen=True):
    """How processes find each other."""

    backend: Annotated[
        Literal["c10d", "static"],
        Meta(
            description="How several nodes meet: `c10d` gives out ranks as they come, with the same command everywhere;"
            " `static` numbers the nodes in their order."
        ),
    ] = "c10d"
    address: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(
            description="Name or address of the node on which processes meet, as the others reach it.",
            extra_json_schema=derived("the first host, where there are several nodes"),
        ),
    ] = None
    conf: Annotated[
        dict[ConfName, str],
        Meta(description="Further settings of torchrun's rendezvous by name, such as `join_timeout: 1200`."),
    ] = msgspec.field(default_factory=FrozenDict)
    port: Annotated[
        Annotated[int, Meta(ge=1, le=65535)] | None,
        Meta(description="TCP port on which the first process listens; unset takes a free one, so that no jobs clash."),
    ] = None

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "conf", freeze(self.conf))


class Elastic(Part, frozen=True):
    """How many machines a run may lose."""

    min: Annotated[
        Annotated[int, Meta(ge=1, le=65536)] | None,
        Meta(description="Machines with which a run goes on when others are lost; unset needs all of `count`."),
    ] = None


class Nodes(Part, frozen=True):
    """How many machines, and how their processes meet."""

    count: Annotated[int, Meta(ge=1, le=65536, description="Number of machines.")] = 1
    rendezvous: Annotated[Rendezvous, Meta(description="How processes find each other.")] = Rendezvous()
    elastic: Annotated[Elastic, Meta(description="How many machines a run may lose.")] = Elastic()
    max_restarts: Annotated[
        int, Meta(ge=0, le=1000, description="How often all processes are started again after one of them failed.")
    ] = 0
    monitor_interval: Annotated[
        Annotated[float, Meta(gt=0, le=3600)] | None,
        Meta(description="Seconds between two looks of the launcher at its processes; unset is torchrun's 0.1."),
    ] = None
    collective_timeout: Annotated[
        Annotated[float, Meta(gt=0, le=604800)] | None,
        Meta(
            description="Seconds that processes may wait for each other in a collective before it is an error; unset is"
            " torch's choice, 600 with NCCL and 1800 with gloo."
        ),
    ] = None


class Limits(Part, frozen=True):
    """What a run may use before it is ended."""

    minutes: Annotated[
        Annotated[float, Meta(gt=0, le=527040)] | None,
        Meta(description="Minutes after which the processes are asked to end, then ended; the exit code is 124."),
    ] = None
    memory: Annotated[
        Annotated[
            str,
            Meta(
                pattern=r"^[1-9][0-9]{0,6}(MiB|GiB|TiB)$(?!\n)",
                extra_json_schema=form("a size such as `512MiB` or `8GiB`"),
            ),
        ]
        | None,
        Meta(
            description="Memory that each process may allocate for itself (RLIMIT_DATA), such as `8GiB`; what is beyond"
            " it fails in the process. GPU memory does not count."
        ),
    ] = None

    @property
    def memory_bytes(self) -> int | None:
        """The limit of memory in bytes."""
        return None if self.memory is None else int(self.memory[:-3]) * _UNITS[self.memory[-3:]]


_UNITS = {"MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


# --- the job --------------------------------------------------------------------------------------------------------

Hardware = AutoHardware | Cpu | Gpu | Tpu
Precision = FullPrecision | Bf16 | Fp16 | Fp8
Paradigm = NoParadigm | Ddp | Fsdp | DeepSpeed | Megatron
LauncherName = Literal["auto", "python", "torchrun", "deepspeed", "xla"]
VariableName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$(?!\n)",
        extra_json_schema=form("the name of a variable: letters, digits and `_`, no digit first"),
    ),
]
RunName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$(?!\n)",
        extra_json_schema=form("a run such as `gpt-20261121-101500-3f2a` or `last`"),
    ),
]
ModuleName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$(?!\n)",
        extra_json_schema=form("a module name such as `package.train`"),
    ),
]


class Job(Part, frozen=True, kw_only=True):
    """A training job: what to run, on what, and how."""

    version: Annotated[Literal[1], Meta(description="Version of the document's format.")] = 1
    name: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$(?!\n)",
            description="Name of the job, used in the names of its runs.",
            extra_json_schema=derived("the script, module or command")
            | form("letters, digits, `.`, `_` and `-`, at most 63, a letter or digit first"),
        ),
    ]
    script: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="Python file to run, relative to the job file (on the command line: to the current folder)."),
    ] = None
    module: Annotated[
        ModuleName | None,
        Meta(description="Python module to run instead of a script, as `python -m` takes it."),
    ] = None
    command: Annotated[
        Annotated[tuple[str, ...], Meta(min_length=1)] | None,
        Meta(description="Program with its arguments to run in each process instead of Python."),
    ] = None
    function: Annotated[
        Annotated[
            str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$(?!\n)", extra_json_schema=form("the name of a function"))
        ]
        | None,
        Meta(
            description="Function of the script or module that each process calls with its number, with `launcher: xla`"
            " and `runtime: torch_xla`; unset runs the script, which starts its processes itself."
        ),
    ] = None
    args: Annotated[
        tuple[str, ...], Meta(description="Arguments of the script or module, passed on exactly as written.")
    ] = ()
    workdir: Annotated[
        Annotated[str, Meta(min_length=1)],
        Meta(description="Folder in which the processes start, relative to the job file's folder."),
    ] = "."
    env: Annotated[
        dict[VariableName, str],
        Meta(description="Environment variables of every process, exactly as written."),
    ] = msgspec.field(default_factory=FrozenDict)
    secrets: Annotated[
        tuple[VariableName, ...],
        Meta(description="Names of environment variables that must be set at the start; no value is ever recorded."),
    ] = ()
    python: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(
            description="Python interpreter of the processes; unset is the one that runs jobc, on other machines"
            " `python3`."
        ),
    ] = None
    setup: Annotated[
        tuple[str, ...],
        Meta(
            description="Lines of bash that run on each node before its processes and in their shell, such as"
            " `source env/bin/activate`; one that fails ends the run."
        ),
    ] = ()
    launcher: Annotated[
        LauncherName,
        Meta(
            description="What starts a node's processes: `torchrun` watches over several, `python` only starts them,"
            " `deepspeed` and `xla` start those of scripts that train with DeepSpeed or on TPUs by themselves."
        ),
    ] = "auto"
    launcher_args: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(description="Further options of the launcher, passed on exactly as written."),
    ] = ()
    depends_on: Annotated[
        tuple[RunName, ...],
        Meta(description="Earlier runs, by id or its beginning, which must succeed before this one begins."),
    ] = ()
    limits: Annotated[Limits, Meta(description="What a run may use before it is ended.")] = Limits()
    hardware: Annotated[Hardware, Meta(description="Devices that the job uses on each node.")] = AutoHardware()
    precision: Annotated[Precision, Meta(description="Number format of the forward and backward passes.")] = (
        FullPrecision()
    )
    paradigm: Annotated[
        Paradigm,
        Meta(
            description="How the model is spread over the processes.",
            extra_json_schema=derived("`ddp` above one process, else `none`"),
        ),
    ]
    nodes: Annotated[Nodes, Meta(description="How many machines, and how their processes meet.")] = Nodes()
    target: Annotated[Target, Meta(description="Where the nodes come from.")] = Local()
    training: Annotated[Training, Meta(description="Settings that the runtime applies in every process.")] = Training()
    logging: Annotated[
        Logging, Meta(description="What is shown of what the processes write while they run, and where it is kept.")
    ] = Logging()
    vars: Annotated[
        dict[str, Any],
        Meta(description="Values of your own for `${vars.name}`; jobc itself reads none of them."),
    ] = msgspec.field(default_factory=FrozenDict)

    def __post_init__(self) -> None:
        for name in ("env", "vars"):
            msgspec.structs.force_setattr(self, name, freeze(getattr(self, name)))

    @property
    def processes_per_node(self) -> int:
        """Processes on each node. After resolution it is a number, also where the document said `all`."""
        per_node = self.hardware.per_node
        if per_node == "all":
            raise ValueError("`hardware.per_node: all` is resolved to a number before anything reads it")
        return per_node

    @property
    def processes(self) -> int:
        """Processes of the whole job."""
        return self.nodes.count * self.processes_per_node

    def fits(self, processes: int, local: int) -> bool:
        """Whether a world of so many processes, so many of them on this machine, is one of the job."""
        per_node, least = self.processes_per_node, self.nodes.elastic.min or self.nodes.count
        return local == per_node and processes in range(least * per_node, self.processes + 1, per_node)

    @property
    def copies(self) -> int:
        """Processes, or groups of them that share a model, that each train on batches of their own."""
        if isinstance(self.paradigm, Megatron):
            return max(
                1, self.processes // (self.paradigm.tp_degree * self.paradigm.pp_degree * self.paradigm.cp_degree)
            )
        return self.processes
