"""The place that something else gave a process among others: torchrun, an operator, srun or mpirun.

Each says it in variables of its own; here they become those that torch.distributed reads. What is there already is
never replaced. Sources: the manuals of torchrun, of srun (output environment variables), of Open MPI's mpirun and of
MPICH's process manager.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping

import msgspec

#: Variables of torch.distributed's `env://` and torchrun's names for the rest.
WORLD = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_FIRST_PORT, _PORTS = 10_000, 20_000  # below those that Linux hands out by itself


class Inherited(msgspec.Struct, frozen=True):
    """Who started this process as one of several, and its place in the variables of torch, as far as it is known."""

    by: str
    variables: dict[str, str]


def inherited(env: Mapping[str, str]) -> Inherited | None:
    """The place of this process among others, None where nothing in the environment gives it one."""
    for by, reader in _READERS:
        found = reader(env)
        if found is not None:
            meeting = {name: env[name] for name in ("MASTER_ADDR", "MASTER_PORT") if env.get(name)}
            return Inherited(by, {**found, **meeting})
    return None


def completed(env: Mapping[str, str]) -> Mapping[str, str]:
    """The environment with torch's variables, where another starter than torchrun says the same in its own."""
    if env.get("RANK") or env.get("WORLD_SIZE"):
        return env
    found = inherited(env)
    return env if found is None or found.variables["WORLD_SIZE"] == "1" else {**env, **found.variables}


def _torch(env: Mapping[str, str]) -> dict[str, str] | None:
    if not (env.get("RANK") and env.get("WORLD_SIZE")):
        return None
    return {name: env[name] for name in WORLD if env.get(name)}


def _slurm(env: Mapping[str, str]) -> dict[str, str] | None:
    """A task of a step. The batch script itself has no step, and is no task."""
    names = ("SLURM_STEP_ID", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_NODEID")
    if any(not env.get(name, "").isdigit() for name in names):
        return None
    counts = _tasks_per_node(env.get("SLURM_STEP_TASKS_PER_NODE", ""))
    node = int(env["SLURM_NODEID"])
    found = {
        "RANK": env["SLURM_PROCID"],
        "WORLD_SIZE": env["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": env["SLURM_LOCALID"],
        "MASTER_PORT": _port(f"{env.get('SLURM_JOB_ID', '')}.{env['SLURM_STEP_ID']}"),
    }
    if node < len(counts):
        found["LOCAL_WORLD_SIZE"] = str(counts[node])
    first = first_host(env.get("SLURM_STEP_NODELIST", ""))
    return {**found, "MASTER_ADDR": first} if first else found


def _tasks_per_node(text: str) -> list[int]:
    """The counts that Slurm abbreviates as `2(x3),1`."""
    counts: list[int] = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        counts += [int(count)] * int(times or 1)
    return counts


def first_host(nodes: str) -> str:
    """The first machine of a Slurm node list: `n1` of `n[1-4,7],m2`."""
    found = re.match(r"([^\[,]*)(?:\[(\w+)[^\]]*\])?([^,\[]*)", nodes)
    return "".join(part or "" for part in found.groups()) if found is not None else ""


def _openmpi(env: Mapping[str, str]) -> dict[str, str] | None:
    return _of_mpi(
        env,
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
        env.get("PMIX_NAMESPACE") or env.get("OMPI_MCA_ess_base_jobid") or "",
    )


def _hydra(env: Mapping[str, str]) -> dict[str, str] | None:
    return _of_mpi(env, ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"), env.get("PMI_PORT", ""))


def _of_mpi(env: Mapping[str, str], names: tuple[str, str, str, str], job: str) -> dict[str, str] | None:
    if any(not env.get(name, "").isdigit() for name in names):
        return None
    rank, size, local_rank, local_size = (env[name] for name in names)
    found = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": local_rank, "LOCAL_WORLD_SIZE": local_size}
    if job:
        found["MASTER_PORT"] = _port(job)
    return {**found, "MASTER_ADDR": "127.0.0.1"} if size == local_size else found


def _port(job: str) -> str:
    """A port that all processes of a job take without asking each other, and other jobs hardly."""
    return str(_FIRST_PORT + zlib.crc32(job.encode()) % _PORTS)


_READERS: tuple[tuple[str, Callable[[Mapping[str, str]], dict[str, str] | None]], ...] = (
    ("torchrun", _torch),
    ("srun", _slurm),
    ("mpirun", _openmpi),
    ("mpiexec", _hydra),
)
