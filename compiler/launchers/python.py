"""The launcher `python`: each process is started directly, its rank variables written out in the plan."""

from __future__ import annotations

from ...spec import ResolvedSpec
from ..plan import Argv, Command, Text
from .base import Site, entry, folder, interpreter, prepared, ranks_of, shared_env

RESTARTS = False
OPTIONS = None


def node_commands(spec: ResolvedSpec, index: int, site: Site) -> tuple[Command, ...]:
    """One command for each process. A single process keeps the terminal and needs no variables of a world."""
    ranks = ranks_of(spec, index)
    argv, shared, cwd = _argv(spec, site), shared_env(spec, site), folder(spec, site)
    if spec.job.processes == 1:
        return (Command(argv=argv, env=shared, cwd=cwd, ranks=ranks),)
    return tuple(
        Command(
            argv=argv,
            env={**_world(spec, rank, local_rank, site), "PYTHONUNBUFFERED": "1", **shared},
            cwd=cwd,
            ranks=(rank,),
            output="capture",
        )
        for local_rank, rank in enumerate(ranks)
    )


def _argv(spec: ResolvedSpec, site: Site) -> Argv:
    if spec.job.command is not None:
        return prepared(spec, spec.job.command)
    return prepared(spec, (interpreter(spec, site), *entry(spec)))


def _world(spec: ResolvedSpec, rank: int, local_rank: int, site: Site) -> dict[str, Text]:
    """The variables that torch.distributed's `env://` initialisation reads, and torchrun's names for the rest."""
    port = spec.job.nodes.rendezvous.port
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(local_rank),
        "WORLD_SIZE": str(spec.job.processes),
        "LOCAL_WORLD_SIZE": str(spec.job.processes_per_node),
        "MASTER_ADDR": site.address,
        "MASTER_PORT": site.port if port is None else str(port),
    }
