"""The launcher `python`: each process is started directly, its rank variables written out in the plan."""

from __future__ import annotations

from ...spec import ResolvedSpec
from ..plan import Argv, Command, Ref, Text
from .base import (
    Site,
    bound,
    content,
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
FUNCTIONS = False
HARDWARE = frozenset({"auto", "cpu", "gpu"})
check = content
reaches_nodes = starts_one_node
files = no_files


def node_commands(spec: ResolvedSpec, site: Site) -> tuple[Command, ...]:
    """One command for each process. A single process keeps the terminal and needs no variables of a world."""
    shared, cwd = shared_env(spec, site), folder(spec, site)
    if spec.job.processes == 1:
        return (Command(argv=_argv(spec, 0, site), env=shared, cwd=cwd, ranks=(0,)),)
    return tuple(
        Command(
            argv=_argv(spec, local_rank, site),
            env={**_world(spec, local_rank, site), "PYTHONUNBUFFERED": "1", **shared},
            cwd=cwd,
            ranks=(local_rank,),
            output="capture",
        )
        for local_rank in local_ranks(spec)
    )


def _argv(spec: ResolvedSpec, local_rank: int, site: Site) -> Argv:
    before, command = (*bound(spec, local_rank), *limited(spec)), spec.job.command
    return prepared(spec, (*before, *((interpreter(spec, site), *entry(spec)) if command is None else command)))


def _world(spec: ResolvedSpec, local_rank: int, site: Site) -> dict[str, Text]:
    """The variables that torch.distributed's `env://` initialisation reads, and torchrun's names for the rest."""
    port = spec.job.nodes.rendezvous.port
    return {
        "RANK": str(local_rank) if isinstance(site.node, str) else (Ref("rank", local=local_rank),),
        "LOCAL_RANK": str(local_rank),
        "WORLD_SIZE": str(spec.job.processes),
        "LOCAL_WORLD_SIZE": str(spec.job.processes_per_node),
        "MASTER_ADDR": site.address,
        "MASTER_PORT": site.port if port is None else str(port),
    }
