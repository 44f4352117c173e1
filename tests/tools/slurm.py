"""A Slurm cluster on this machine: munged, slurmctld and a slurmd for each of two nodes, in one folder and on free ports.

python tests/tools/slurm.py start FOLDER                prints the line that points sbatch and its company at it
python tests/tools/slurm.py start FOLDER accounting     with a slurmdbd, which sacct asks
python tests/tools/slurm.py stop FOLDER

Every node has four processors, 4000 MB and eight GPUs of the type h100 that are none. Needs root.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import processes
from ports import free_ports
from slurm_accounting import Accounting

NODES = {"jobc-n1": "127.0.0.2", "jobc-n2": "127.0.0.3"}
GPUS = 8
MARK = "JOBC_TEST_SLURM"  # in the environment of what is started here
CONFIG = """\
ClusterName=jobc
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A job that is queued again starts no sooner than a credential expires: 120 s, were it not said.
AuthInfo=socket={folder}/munge.sock,cred_expire=10
CredType=cred/munge
SlurmctldPort={port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
{accounting}
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/log/jobcomp.log
MpiDefault=none
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=1
SlurmctldTimeout=60
SlurmdTimeout=60
InactiveLimit=0
KillWait=5
MinJobAge=300
Waittime=0
SlurmdParameters=config_overrides
RebootProgram=/bin/true
GresTypes=gpu
{nodes}
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """A cluster whose files are in `folder`; `env` is what points a command at it."""

    def __init__(self, folder: Path, *, accounting: bool = False) -> None:
        self.folder = folder.resolve()
        self.accounting = Accounting(self.folder) if accounting else None
        self.env = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        self.marks = {MARK: str(self.folder), **self.env}

    def start(self) -> None:
        """Until both nodes are idle."""
        for name in ("munge", "log", "state", "spool", "dev"):
            (self.folder / name).mkdir(parents=True)
        self._configure()
        (self.folder / "munge").chmod(0o700)
        key = self.folder / "munge" / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(256))
        munged = ["munged", "--force", f"--key-file={key}", f"--socket={self.folder}/munge.sock", "--num-threads=2"]
        files = [f"--pid-file={self.folder}/munged.pid", f"--seed-file={self.folder}/munge/seed"]
        self._run([*munged, *files, f"--log-file={self.folder}/log/munged.log"])
        if self.accounting:
            self.accounting.start(self._run)
            self.accounting.register(self._run)
        self._run(["slurmctld", "-c"])
        for name in NODES:
            self._run(["slurmd", "-N", name])
        self.wait_for_nodes("idle")

    def stop(self) -> None:
        """End jobs and daemons, and whatever they started; by their process ids."""
        if self.pid("slurmctld") is not None:
            self.run("scancel", "--full", "--user=root", check=False)
            processes.until(lambda: not self.run("squeue", "-h", check=False).strip(), 15)
        for name in ("slurmctld", *(f"slurmd-{name}" for name in NODES), "slurmdbd", "mariadbd", "munged"):
            pid = self.pid(name)
            if pid is not None:
                os.kill(pid, signal.SIGTERM)
                processes.until(lambda name=name: self.pid(name) is None, 20)
        processes.end(self._is_ours)
        shutil.rmtree(self.folder / "database", ignore_errors=True)  # of 100 MB

    def run(self, *command: str, check: bool = True) -> str:
        """What a command of Slurm's prints."""
        done = subprocess.run(command, env=self._env(), check=check, stdout=subprocess.PIPE, text=True, timeout=60)
        return done.stdout

    def state(self, node: str) -> str:
        """What Slurm says of a node: idle, mixed, allocated, down."""
        return self.run("sinfo", "-h", "-N", "-n", node, "-o", "%T").strip()

    def down(self, node: str) -> None:
        """What an administrator does with a broken machine; its jobs are lost or queued again.

        For a cluster of a test's own: Slurm 22.05 may keep what the lost job had, also once the node is resumed.
        """
        self.run("scontrol", "update", f"nodename={node}", "state=down", "reason=broken")

    def wait_for_nodes(self, state: str, seconds: float = 60) -> None:
        """Until Slurm says the same of both nodes."""
        self._until(lambda: all(self.state(node) == state for node in NODES), seconds)

    def pid(self, daemon: str) -> int | None:
        """The process id of a daemon that runs: munged, slurmctld, slurmd-jobc-n1."""
        try:
            pid = int((self.folder / f"{daemon}.pid").read_text())
            running = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except (OSError, ValueError):
            return None
        return pid if running else None

    def _configure(self) -> None:
        host = socket.gethostname().partition(".")[0]
        port, *others = free_ports(1 + len(NODES))
        nodes = "\n".join(
            f"NodeName={name} NodeHostname={host} NodeAddr={address} Port={other} CPUs=4 RealMemory=4000 "
            f"Gres=gpu:h100:{GPUS} State=UNKNOWN"
            for (name, address), other in zip(NODES.items(), others, strict=True)
        )
        accounting = self.accounting.lines if self.accounting else "AccountingStorageType=accounting_storage/none"
        Path(self.env["SLURM_CONF"]).write_text(
            CONFIG.format(folder=self.folder, host=host, port=port, nodes=nodes, accounting=accounting)
        )
        for number in range(GPUS):
            os.mknod(self.folder / "dev" / f"gpu{number}", 0o666 | 0o020000, os.makedev(1, 3))  # /dev/null
        device = f"{self.folder}/dev/gpu[0-{GPUS - 1}]"
        (self.folder / "gres.conf").write_text(f"NodeName={','.join(NODES)} Name=gpu Type=h100 File={device}\n")

    def _env(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
        return {**inherited, "PATH": f"{inherited['PATH']}:/usr/sbin", MARK: str(self.folder), **self.env}

    def _run(self, command: list[str]) -> None:
        # A daemon keeps what it inherits open: a pipe would never end.
        log = self.folder / "log" / "start.log"
        with log.open("a") as output:
            done = subprocess.run(command, env=self._env(), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        assert done.returncode == 0, f"{command[0]}: {log.read_text()}"

    def _until(self, condition: Callable[[], object], seconds: float) -> None:
        assert processes.until(condition, seconds), f"not within {seconds:g} s; see {self.folder}/log"

    def _is_ours(self, pid: int) -> bool:
        # A job has the variables of who submitted it; that it is one is said by those of its node.
        job = processes.variable(pid, "SLURMD_NODENAME") and processes.variable(pid, "SLURM_CONF")
        return job == self.env["SLURM_CONF"] or processes.variable(pid, MARK) == str(self.folder)


def missing() -> str | None:
    """Why there can be no cluster here, with what helps."""
    if not all(
        shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in ("slurmctld", "slurmd", "munged")
    ):
        return "Slurm is not installed: make engines"
    if os.geteuid() != 0:
        return "the daemons of Slurm are started as root here"
    return None


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in ("start", "stop"):
        sys.exit(__doc__)
    if missing():
        sys.exit(missing())
    cluster = Slurm(Path(sys.argv[2]), accounting="accounting" in sys.argv[3:])
    if sys.argv[1] == "stop":
        cluster.stop()
    else:
        cluster.start()
        print("export", *(f"{name}={value}" for name, value in cluster.env.items()))
