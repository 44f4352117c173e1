"""The launcher `xla`: processes of scripts that train on TPUs themselves, with torch_tpu or with torch_xla.

With torch_tpu it is torchrun on each machine, after asking the TPU for its place in the slice. With torch_xla it is one
command on each machine: the one process that sees all devices (`spmd`), or the parent of a process for each device. The
script starts those with `torch_xla.launch`; where the job names a `function`, this launcher does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

import msgspec

from ...spec import Finding, ResolvedSpec, finding
from ...spec.hardware import Tpu
from ..plan import Argv, Command, Text
from . import torchrun
from .base import (
    Site,
    entry,
    folder,
    interpreter,
    limited,
    local_ranks,
    no_files,
    prepared,
    shared_env,
    starts_one_node,
)

RESTARTS = False
OPTIONS = None
FUNCTIONS = True
HARDWARE = frozenset({"tpu"})
reaches_nodes = starts_one_node
files = no_files

#: torch_tpu prints the variables that processes need, on several machines the place of this one too, which torchrun
#: then takes from variables of its own.
_ASKED = 'set -ea\nfound=$("$0" -m torch.tpu.distributed)\neval "$found"\n'
_PLACED = (
    'PET_NNODES="$NNODES" PET_NODE_RANK="$NODE_RANK" PET_MASTER_ADDR="$MASTER_ADDR" PET_MASTER_PORT="$MASTER_PORT"\n'
)
#: Calls a function of a module as torch_xla does, with the number of the process. A child imports the module by its
#: name, so that a script is imported from its folder.
_SPAWN = """\
import importlib, pathlib, sys
function, script, *rest = sys.argv[1:]
if script == "-m":
    name, *rest = rest
    sys.argv = [name, *rest]
else:
    path = pathlib.Path(script).resolve()
    name, sys.path[0] = path.stem, str(path.parent)
    sys.argv = [script, *rest]
import torch_xla
torch_xla.launch(getattr(importlib.import_module(name), function))
"""


def check(spec: ResolvedSpec) -> Iterator[Finding]:
    """A function that is called by nobody or cannot be found by a name."""
    job, hardware = spec.job, spec.job.hardware
    if isinstance(hardware, Tpu) and job.function is not None:
        if hardware.runtime != "torch_xla":
            cause = f"`function` has no effect: with `hardware.runtime: {hardware.runtime}` the script is run"
            step = "use `runtime: torch_xla`, or call it at the end of the script"
            yield finding("J311", cause, place=spec.place("function"), next_step=step)
        elif job.command is not None:
            cause = "`function` is one of a script or module, and the job runs a command"
            yield finding("J311", cause, place=spec.place("function"), next_step="use `script` or `module`")
        elif job.script is not None and not PurePosixPath(job.script).stem.isidentifier():
            cause = f"`{job.script}` has a name that Python cannot import, and its `function` is imported"
            yield finding(
                "J355", cause, place=spec.place("script"), next_step="rename it, with letters, digits and `_`"
            )


def node_commands(spec: ResolvedSpec, site: Site) -> tuple[Command, ...]:
    """One command on each machine."""
    hardware = spec.job.hardware
    runtime = hardware.runtime if isinstance(hardware, Tpu) else "spmd"  # a job that is refused for it has some command
    return _COMMANDS[runtime](spec, site)


def _torch_tpu(spec: ResolvedSpec, site: Site) -> tuple[Command, ...]:
    alone = spec.job.nodes.count == 1
    agent = torchrun.agent(spec, site, ("--standalone",) if alone else ())
    script = _ASKED + ("" if alone else _PLACED) + 'exec "$@"'
    argv = prepared(spec, ("bash", "-c", script, interpreter(spec, site), *agent.argv))
    return (msgspec.structs.replace(agent, argv=argv),)


def _torch_xla(spec: ResolvedSpec, site: Site) -> tuple[Command, ...]:
    job, python = spec.job, interpreter(spec, site)
    if job.function is not None:
        argv: Argv = (python, "-c", _SPAWN, job.function, *entry(spec))
    else:
        argv = (python, *entry(spec)) if job.command is None else job.command
    return (_one(spec, site, argv, {}),)


def _spmd(spec: ResolvedSpec, site: Site) -> tuple[Command, ...]:
    argv: Argv = (interpreter(spec, site), *entry(spec)) if spec.job.command is None else spec.job.command
    return (_one(spec, site, argv, {"XLA_USE_SPMD": "1"}),)


def _one(spec: ResolvedSpec, site: Site, argv: Argv, more: dict[str, Text]) -> Command:
    """The one command of a machine. Processes of torch_xla find their places themselves, in the TPU's own variables."""
    alone = spec.job.nodes.count == 1
    return Command(
        argv=prepared(spec, (*limited(spec), *argv)),
        env={"PJRT_DEVICE": "TPU", **more, **shared_env(spec, site)},
        cwd=folder(spec, site),
        ranks=local_ranks(spec),
        output="inherit" if alone else "capture",
    )


_COMMANDS = {"torch_tpu": _torch_tpu, "torch_xla": _torch_xla, "spmd": _spmd}
