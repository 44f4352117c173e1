"""The launcher `deepspeed`: DeepSpeed's own starts the processes of scripts that call DeepSpeed themselves.

On each node it is `deepspeed.launcher.launch`, which is what the deepspeed command itself runs there. Where the
document names one of that command's ways to start several nodes, it is the command, once (`deepspeed_nodes`).
"""

from __future__ import annotations

import base64
import json

from ...spec import ResolvedSpec
from ...spec.hardware import Cpu, Gpu
from ...spec.paradigms import DeepSpeed
from ..plan import Argv, Command, Text, WriteFile
from . import deepspeed_checks, deepspeed_config, deepspeed_nodes
from .base import Site, entry, folder, interpreter, joined, limited, local_ranks, prepared, shared_env

RESTARTS = False
#: Options of DeepSpeed's launcher, and of the deepspeed command, that follow from the document.
OPTIONS = frozenset({
    "hostfile", "H", "include", "i", "exclude", "e", "num-nodes", "num-gpus", "num-accelerators", "master-addr",
    "master-port", "node-rank", "world-info", "launcher", "launcher-args", "module", "no-python", "no-local-rank",
    "no-ssh", "force-multi", "enable-each-rank-log",
})  # fmt: skip
FUNCTIONS = False
HARDWARE = frozenset({"auto", "cpu", "gpu"})
#: Puts the rank before each line that a process writes; the process takes the shell's place.
TAGGED = 'exec > >(exec sed -u "s/^/[$RANK] /") 2> >(exec sed -u "s/^/[$RANK] /" >&2)\n'
_CARRIED = 'umask 077\nmkdir -p -- "${2%/*}"\nprintf %s "$1" > "$2.$$"\nmv -- "$2.$$" "$2"\nshift 2\nexec "$@"'

check = deepspeed_checks.check


def reaches_nodes(spec: ResolvedSpec) -> bool:
    """Whether the deepspeed command starts the machines of a hostfile."""
    return deepspeed_nodes.starter_of(spec) is not None


def files(spec: ResolvedSpec, site: Site) -> tuple[WriteFile, ...]:
    """DeepSpeed's configuration, its hostfile and its variables, where there are such."""
    config = deepspeed_config.content(spec)
    found = () if config is None else (WriteFile(path=config_path(site), content=config),)
    return (*found, *deepspeed_nodes.files(spec, variables(spec, site), site))


def node_commands(spec: ResolvedSpec, site: Site) -> tuple[Command, ...]:
    """DeepSpeed's launcher on a node, or the deepspeed command for all of them."""
    starter = deepspeed_nodes.starter_of(spec)
    env, argv = variables(spec, site), process(spec, site)
    if starter is not None:
        return (deepspeed_nodes.command(spec, starter, argv, env, site),)
    alone = spec.job.processes == 1
    where: Argv = () if alone else ("bash", "-c", f'{TAGGED}exec "$@"', "jobc-rank")
    port = spec.job.nodes.rendezvous.port
    launch: Argv = (
        interpreter(spec, site),
        "-m",
        "deepspeed.launcher.launch",
        f"--world_info={_world(spec)}",
        *((joined("--node_rank=", site.node),) if spec.job.nodes.count > 1 else ()),
        joined("--master_addr=", site.address),
        joined("--master_port=", site.port if port is None else str(port)),
        "--no_local_rank",
        "--log_level=warning",
        *spec.job.launcher_args,
        "--no_python",
        "--",
    )
    return (
        Command(
            argv=prepared(spec, _carrying(spec, site, (*launch, *where, *argv))),
            env=env,
            cwd=folder(spec, site),
            ranks=local_ranks(spec),
            output="inherit" if alone else "tagged" if site.output == "stream" else "deepspeed",
            title="deepspeed",
        ),
    )


def process(spec: ResolvedSpec, site: Site) -> Argv:
    """The command of one process. DeepSpeed's launcher adds `--local_rank` to scripts; ours keep their arguments."""
    command = spec.job.command
    words: Argv = (interpreter(spec, site), "-u", *entry(spec)) if command is None else command
    return (*limited(spec), *words, *_config_words(spec, site))


def variables(spec: ResolvedSpec, site: Site) -> dict[str, Text]:
    """The variables of DeepSpeed's launcher, which its processes inherit."""
    hardware = spec.job.hardware
    accelerator = "cpu" if isinstance(hardware, Cpu) else "cuda" if isinstance(hardware, Gpu) else None
    return {
        "PYTHONUNBUFFERED": "1",
        "LOCAL_WORLD_SIZE": str(spec.job.processes_per_node),
        **({} if accelerator is None else {"DS_ACCELERATOR": accelerator}),
        **shared_env(spec, site),
    }


def config_path(site: Site) -> Text:
    """Where DeepSpeed's configuration is on a node."""
    return joined(site.logs if site.files is None else site.files, "/deepspeed.json")


def _config_words(spec: ResolvedSpec, site: Site) -> Argv:
    paradigm = spec.job.paradigm
    if not isinstance(paradigm, DeepSpeed) or paradigm.config_argument is None:
        return ()
    return (paradigm.config_argument, config_path(site))


def _carrying(spec: ResolvedSpec, site: Site, argv: Argv) -> Argv:
    """A command line that writes the configuration first, where no target does; each process sees the whole file."""
    config = deepspeed_config.content(spec)
    if config is None or site.files is not None:
        return argv
    return ("bash", "-c", _CARRIED, "jobc-config", config, config_path(site), *argv)


def _world(spec: ResolvedSpec) -> str:
    """The numbers of the devices on each node, as DeepSpeed's launcher takes them."""
    job = spec.job
    ids = job.hardware.ids if isinstance(job.hardware, Gpu) and job.hardware.ids is not None else None
    devices = list(ids if ids is not None else range(job.processes_per_node))
    world = {str(node): devices for node in range(job.nodes.count)}
    return base64.urlsafe_b64encode(json.dumps(world, separators=(",", ":")).encode()).decode()
