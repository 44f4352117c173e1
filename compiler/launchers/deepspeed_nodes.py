"""The ways in which the deepspeed command starts several nodes: what each passes on, and the command for it.

DeepSpeed's own ways lose variables and split arguments. Here a variable reaches every process byte for byte, or the job
is refused (`deepspeed_checks`); a process needs no mpi4py to learn its rank.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Literal, NamedTuple

from ...spec import ResolvedSpec
from ...spec.hostfiles import Machine, chosen, read
from ...spec.paradigms import DeepSpeed
from ..plan import Argv, Command, Ref, Text, WriteFile
from ..quoting import script_word
from .base import Site, folder, interpreter, joined


class Starter(NamedTuple):
    """What starts the processes of several nodes for the deepspeed command.

    `numbers` says whether it can give out devices by their numbers. `passes` says how variables reach the processes: in
    a `file` that DeepSpeed reads, by their `names` in an option of it, or `all` of them; `options` are further options
    that make that so. `srun` says that it is srun, which has its machines from an allocation and starts Python alone.
    `rank`, `size` and `local` are the variables in which it tells a process its place, where they are not torch's.
    """

    numbers: bool = False
    passes: Literal["file", "names", "all"] = "all"
    options: tuple[str, ...] = ()
    srun: bool = False
    rank: str = ""
    size: str = ""
    local: str = ""


STARTERS: dict[str, Starter] = {
    "pdsh": Starter(numbers=True, passes="file", options=("-N",)),
    "openmpi": Starter(
        passes="names",
        rank="OMPI_COMM_WORLD_RANK",
        size="OMPI_COMM_WORLD_SIZE",
        local="OMPI_COMM_WORLD_LOCAL_RANK",
    ),
    "mpich": Starter(options=("-genvall",)),
    "impi": Starter(options=("-genvall",)),
    "mvapich": Starter(
        options=("-genvall",),
        rank="MV2_COMM_WORLD_RANK",
        size="MV2_COMM_WORLD_SIZE",
        local="MV2_COMM_WORLD_LOCAL_RANK",
    ),
    "slurm": Starter(
        options=("--kill-on-bad-exit=1",),
        srun=True,
        rank="SLURM_PROCID",
        size="SLURM_NTASKS",
        local="SLURM_LOCALID",
    ),
}
#: What DeepSpeed writes between no quotes; other values it puts in double ones.
_PLAIN = re.compile(r"[\w@%+=:,./-]*\Z")
_TAGS = 'exec > >(exec sed -u "s/^/[$RANK] /") 2> >(exec sed -u "s/^/[$RANK] /" >&2)\n'
#: pdsh cuts its connections, and what runs behind them goes on: a process ends when the sshd that it came from is gone.
_WATCH = """\
sshd=$$
while [ "$sshd" -gt 1 ] && ! grep -qs ^sshd "/proc/$sshd/comm"; do
  read -r _ _ _ sshd _ < "/proc/$sshd/stat"
done
if [ "$sshd" -gt 1 ]; then
  (
    while kill -0 $$; do
      [ -d "/proc/$sshd" ] || kill -TERM $PPID || kill -KILL $$
      sleep 1
    done
  ) >/dev/null 2>&1 &
fi
"""
#: Python takes the place of itself by another program.
_BECOME = "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"


def starter_of(spec: ResolvedSpec) -> Starter | None:
    """What starts the nodes; None where the target does, with a command for each."""
    paradigm = spec.job.paradigm
    return STARTERS.get(paradigm.multinode_launcher) if isinstance(paradigm, DeepSpeed) else None


def machines(spec: ResolvedSpec) -> tuple[Machine, ...]:
    """The machines of the hostfile that the job chooses, each with as many devices as it has processes.

    Raises:
        HostfileError: as reading it for the document did.
    """
    paradigm = spec.job.paradigm
    if not isinstance(paradigm, DeepSpeed) or paradigm.hostfile is None:
        return ()
    listed = read((Path(spec.project_dir) / paradigm.hostfile).read_text(encoding="utf-8"))
    return tuple(
        Machine(item.name, item.slots[: spec.job.processes_per_node])
        for item in chosen(listed, paradigm.include, paradigm.exclude)
    )


def files(spec: ResolvedSpec, env: dict[str, Text], site: Site) -> tuple[WriteFile, ...]:
    """The hostfile of the machines that are chosen, and the variables for machines that get them from a file."""
    starter = starter_of(spec)
    if starter is None:
        return ()
    lines = "".join(f"{item.name} slots={max(item.slots) + 1}\n" for item in machines(spec))
    hostfile = WriteFile(path=_at(site, "hostfile"), content=lines)
    if starter.passes != "file":
        return (hostfile,)
    exports = joined(*(part for name, value in env.items() for part in (f"{name}=", _exported(value), "\n")))
    return (hostfile, WriteFile(path=_at(site, "variables"), content=exports, mode=0o600))


def command(spec: ResolvedSpec, starter: Starter, process: Argv, env: dict[str, Text], site: Site) -> Command:
    """The deepspeed command that starts the processes of all nodes."""
    job, paradigm = spec.job, spec.job.paradigm
    assert isinstance(paradigm, DeepSpeed)  # noqa: S101 - only then is there a starter
    port = job.nodes.rendezvous.port
    used = machines(spec)
    exact = not all(item.first_ones for item in used)
    include = "@".join(f"{item.name}:{','.join(map(str, item.slots))}" for item in used)
    names = [word for name in (*env, *job.secrets) for word in ("-x", name)] if starter.passes == "names" else []
    further = shlex.join([*starter.options, *_allocated(spec, starter, used), *names, *paradigm.multinode_args])
    own_file: dict[str, Text] = {"DS_ENV_FILE": _at(site, "variables")} if starter.passes == "file" else {}
    options: Argv = (
        joined("--hostfile=", _at(site, "hostfile")),
        *((f"--include={include}",) if exact else ()),
        f"--launcher={paradigm.multinode_launcher}",
        *((f"--launcher_args={further}",) if further else ()),
        "--force_multi",
        f"--master_addr={job.nodes.rendezvous.address or '127.0.0.1'}",
        joined("--master_port=", site.port if port is None else str(port)),
        "--no_local_rank",
        "--log_level=warning",
        *job.launcher_args,
    )
    return Command(
        argv=(
            interpreter(spec, site),
            "-m",
            "deepspeed.launcher.runner",
            *options,
            *_started(spec, starter, process, site),
        ),
        env={**env, **own_file},
        cwd=folder(spec, site),
        ranks=tuple(range(job.processes)),
        output="deepspeed",
        title="deepspeed",
    )


def _allocated(spec: ResolvedSpec, starter: Starter, used: tuple[Machine, ...]) -> tuple[str, ...]:
    """Which machines of an allocation are used, and for how many processes each."""
    if not starter.srun:
        return ()
    hosts = ",".join(item.name for item in used)
    return (f"--nodelist={hosts}", f"--nodes={len(used)}", f"--ntasks-per-node={spec.job.processes_per_node}")


def _started(spec: ResolvedSpec, starter: Starter, process: Argv, site: Site) -> Argv:
    """What is started as each process: a shell that gives it its place and its tag, and becomes it.

    pdsh hands the words to a shell and then to DeepSpeed's launcher on the machine. The first word there is an option
    of that launcher, which has no other way to get there.
    """
    script = joined(
        _place(spec, starter, site),
        _WATCH if starter.passes == "file" else "",
        _TAGS,
        "exec",
        *(part for word in process for part in (" ", script_word(word))),
    )
    if starter.passes == "file":
        return ("--no_python", "--", "--log_level=warning", "--", "bash", "-c", _through_pdsh(script))
    if starter.srun:
        return ("--", "-c", _BECOME, "bash", "-c", script)
    return ("--no_python", "--", "bash", "-c", script)


def _place(spec: ResolvedSpec, starter: Starter, site: Site) -> Text:
    """The variables of torch for a process, from those of what started it."""
    if not starter.rank:
        return ""
    nodes = spec.job.nodes
    port = site.port if nodes.rendezvous.port is None else str(nodes.rendezvous.port)
    meeting = joined(
        f"export MASTER_ADDR={shlex.quote(nodes.rendezvous.address or '127.0.0.1')} MASTER_PORT=", script_word(port)
    )
    return joined(meeting, f' RANK="${starter.rank}" WORLD_SIZE="${starter.size}" LOCAL_RANK="${starter.local}"\n')


def _at(site: Site, name: str) -> Text:
    return joined(site.files or site.logs, f"/{name}")


def _exported(value: Text) -> Text:
    """A value as DeepSpeed puts it behind `export NAME=` for pdsh, which replaces `%h` and the like in its command."""
    if not isinstance(value, str):
        return tuple(part if isinstance(part, Ref) else _percent(part) for part in value)
    if _PLAIN.match(value):
        return _percent(value)
    return _percent(re.sub(r'([\\"$`])', r"\\\1", value))


def _through_pdsh(script: Text) -> Text:
    """A word as pdsh needs it: DeepSpeed escapes `"` and puts it in double quotes for the shell of the machine."""
    parts = (script,) if isinstance(script, str) else script
    return tuple(part if isinstance(part, Ref) else _percent(re.sub(r"([\\$`])", r"\\\1", part)) for part in parts)


def _percent(text: str) -> str:
    return text.replace("%", "%%")
