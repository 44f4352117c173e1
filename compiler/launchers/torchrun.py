"""The launcher `torchrun`: one elastic agent on each node starts and watches the node's processes.

torchrun is `python -m torch.distributed.run`, so that it is the one of the interpreter that runs the job.
"""

from __future__ import annotations

import msgspec

from ...spec import ResolvedSpec
from ...spec.model import Gpu
from ..plan import Argv, Command, Ref, Text
from .base import (
    Site,
    content,
    entry,
    folder,
    interpreter,
    joined,
    limited,
    local_ranks,
    no_files,
    prepared,
    script_argument,
    shared_env,
    starts_one_node,
)

RESTARTS = True
#: Options of torchrun that follow from the document.
OPTIONS = frozenset({
    "standalone", "nnodes", "nproc-per-node", "node-rank", "master-addr", "master-port", "max-restarts",
    "rdzv-backend", "rdzv-endpoint", "rdzv-id", "redirects", "log-dir", "module", "no-python", "run-path",
    "rdzv-conf", "monitor-interval", "numa-binding", "tee", "local-ranks-filter", "role", "r", "t", "m",
})  # fmt: skip
FUNCTIONS = False
HARDWARE = frozenset({"auto", "cpu", "gpu"})
check = content
reaches_nodes = starts_one_node
files = no_files


def node_commands(spec: ResolvedSpec, site: Site) -> tuple[Command, ...]:
    """The agent's command."""
    command = agent(spec, site, _rendezvous(spec, site))
    return (msgspec.structs.replace(command, argv=prepared(spec, command.argv)),)


def agent(spec: ResolvedSpec, site: Site, meeting: Argv) -> Command:
    """The agent's command, without the job's `setup`, that meets the others as it is told."""
    streams = site.output == "stream"
    options: Argv = (
        *meeting,
        f"--nproc-per-node={spec.job.processes_per_node}",
        *((f"--max-restarts={spec.job.nodes.max_restarts}",) if spec.job.nodes.max_restarts else ()),
        *_watching(spec),
        *((f"--role={spec.job.logging.role}",) if spec.job.logging.role is not None else ()),
        "--tee=3" if streams else "--redirects=3",
        joined("--log-dir=", site.logs),
        *spec.job.launcher_args,
    )
    tags: dict[str, Text] = {"TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": "[${rank}] "} if streams else {}
    return Command(
        argv=(*limited(spec), interpreter(spec, site), "-m", "torch.distributed.run", *options, *_entry(spec)),
        env={"PYTHONUNBUFFERED": "1", **tags, **_meeting_anew(spec), **shared_env(spec, site)},
        cwd=folder(spec, site),
        ranks=local_ranks(spec),
        output="tagged" if streams else "torchelastic",
        unset=("PET_",),  # torchrun takes the default of every option from PET_<OPTION>
        title="torchrun",
    )


def _meeting_anew(spec: ResolvedSpec) -> dict[str, Text]:
    """A store for each attempt. Agents share one otherwise, and each numbers attempts by its own restarts alone."""
    several = spec.job.nodes.count > 1 and spec.job.nodes.max_restarts > 0
    return {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"} if several else {}


def _watching(spec: ResolvedSpec) -> Argv:
    """How the agent meets the others, binds its processes and looks at them, where the job says so."""
    nodes, hardware = spec.job.nodes, spec.job.hardware
    conf = ",".join(f"{name}={value}" for name, value in nodes.rendezvous.conf.items())
    binding = hardware.numa_binding if isinstance(hardware, Gpu) else "none"
    return (
        *((f"--rdzv-conf={conf}",) if conf else ()),
        *((f"--monitor-interval={nodes.monitor_interval:g}",) if nodes.monitor_interval is not None else ()),
        *((f"--numa-binding={binding}",) if binding != "none" else ()),
    )


def _rendezvous(spec: ResolvedSpec, site: Site) -> Argv:
    """`--standalone` takes a free port; an explicit endpoint is never left to torchrun's defaults."""
    nodes = spec.job.nodes
    port: Text = site.port if nodes.rendezvous.port is None else str(nodes.rendezvous.port)
    if nodes.count == 1 and nodes.rendezvous.port is None:
        return ("--standalone",)
    if nodes.count > 1 and nodes.rendezvous.backend == "static":
        where = (
            joined("--node-rank=", site.node),
            joined("--master-addr=", site.address),
            joined("--master-port=", port),
        )
        return (f"--nnodes={nodes.count}", *where)
    endpoint = joined("--rdzv-endpoint=", site.address, ":", port)
    count = nodes.count if nodes.elastic.min is None else f"{nodes.elastic.min}:{nodes.count}"
    return (f"--nnodes={count}", "--rdzv-backend=c10d", endpoint, ("--rdzv-id=", Ref("run_id")))


def _entry(spec: ResolvedSpec) -> Argv:
    """What the workers run. torchrun expands macros in arguments, where a doubled `$` stands for one.

    The `--` keeps a script's flags from being taken as abbreviations of torchrun's own (tried with torch 2.13).
    """
    job = spec.job
    if job.command is not None:
        return ("--no-python", "--", *(_literal(word) for word in job.command))
    words = entry(spec)
    if job.module is not None:
        return ("--module", "--", *(_literal(word) for word in words[1:]))
    return ("--", _literal(script_argument(spec)), *(_literal(word) for word in job.args))


def _literal(word: str) -> str:
    return word.replace("$", "$$")
