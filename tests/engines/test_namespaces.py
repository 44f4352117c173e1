"""The target `ssh` between two network namespaces: machines with a network of their own, and a cable that can be cut."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

#: Of this run alone: what a run that was killed left behind has other addresses.
NETWORK = f"10.213.{os.getpid() % 250}"
ADDRESSES = {"m1": f"{NETWORK}.1", "m2": f"{NETWORK}.2"}
GATHER = """
import os, torch
from jobc import Accelerator
accelerator = Accelerator()
ranks = accelerator.gather(torch.tensor([accelerator.process_index])).tolist()
print("gathered", ranks, "in", os.readlink("/proc/self/ns/net"), flush=True)
"""
TWICE = """
import os, time, torch
from pathlib import Path
from jobc import Accelerator
accelerator = Accelerator()
rank, node = accelerator.process_index, os.environ["GROUP_RANK"]
accelerator.gather(torch.ones(1))
first = not Path(f"pid.{rank}").exists()
if first:
    Path(f"pid.{rank}").write_text(f"{os.getpid()} {node}")
    time.sleep(600)
print("gathered", accelerator.gather(torch.tensor([rank])).tolist(), "again", flush=True)
"""
SLEEP = """
import os, time
from pathlib import Path
Path(f"pid.{os.environ['RANK']}").write_text(f"{os.getpid()} {os.readlink('/proc/self/ns/net')}")
time.sleep(600)
"""


def wait_for(condition, seconds=60):
    """Until something is so; what is never so fails the test."""
    for _ in range(seconds * 20):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it never came to pass")


def ip(*words):
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


class Machines:
    """Namespaces on one bridge, each with an sshd; `config` is the ssh_config that knows them."""

    def __init__(self, folder):
        self.folder, self.config = folder, folder / "config"
        self.tag = f"jc{os.getpid() % 10**7}"
        self.names = {name: f"{self.tag}{name}" for name in ADDRESSES}
        self.running = []

    def start(self):
        """Make the networks and start the servers."""
        ip("link", "add", self.tag, "type", "bridge")
        ip("addr", "add", f"{NETWORK}.254/24", "dev", self.tag)
        ip("link", "set", self.tag, "up")
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / name], check=True)
        Path("/run/sshd").mkdir(exist_ok=True)
        for name, address in ADDRESSES.items():
            there = self.names[name]
            ip("netns", "add", there)
            ip("link", "add", there, "type", "veth", "peer", "name", "eth0", "netns", there)
            ip("link", "set", there, "master", self.tag, "up")
            ip("-n", there, "addr", "add", f"{address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", there, "link", "set", device, "up")
            (self.folder / f"{name}.sshd").write_text(
                f"Port 22\nHostKey {self.folder}/host\nPidFile none\nAuthorizedKeysFile {self.folder}/user.pub\n"
                "StrictModes no\nUsePAM no\nClientAliveInterval 3\nClientAliveCountMax 3\n"
            )
            known = Path("/etc/netns", there)  # what `ip netns exec` puts over files of /etc
            known.mkdir(parents=True)
            (known / "hosts").write_text(
                "127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in ADDRESSES.items())
            )
            (known / "resolv.conf").write_text("")  # a server that nothing reaches is waited for
            named = f"hostname {name} && exec /usr/sbin/sshd -D -f {self.folder}/{name}.sshd"
            command = ["ip", "netns", "exec", there, "unshare", "--uts", "sh", "-c", named]
            self.running.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        self.config.write_text(
            "".join(f"Host {name}\n  HostName {address}\n" for name, address in ADDRESSES.items())
            + f"Host *\n  User root\n  IdentityFile {self.folder}/user\n  IdentitiesOnly yes\n"
            f"  StrictHostKeyChecking no\n  UserKnownHostsFile {self.folder}/known\n  LogLevel ERROR\n"
        )
        for name in ADDRESSES:
            wait_for(lambda name=name: not subprocess.run(["ssh", "-F", self.config, name, "true"]).returncode, 10)

    def end(self):
        """End what still runs in the namespaces, and remove them."""
        for there in self.names.values():
            for pid in subprocess.run(["ip", "netns", "pids", there], capture_output=True, text=True).stdout.split():
                os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", there], capture_output=True)
            shutil.rmtree(Path("/etc/netns", there), ignore_errors=True)
        for link in (*self.names.values(), self.tag):
            subprocess.run(["ip", "link", "del", link], capture_output=True)
        for process in self.running:
            process.wait(10)


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    """Two machines, m1 and m2."""
    if not (Path("/usr/sbin/sshd").exists() and shutil.which("rsync") and shutil.which("ip")):
        pytest.skip("sshd, rsync and ip are not installed: make engines")
    made = Machines(tmp_path_factory.mktemp("machines"))
    probe = subprocess.run(["ip", "netns", "add", f"{made.tag}probe"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"no network namespace can be made here: {probe.stderr.strip()}")
    ip("netns", "del", f"{made.tag}probe")
    try:
        made.start()
        yield made
    finally:
        made.end()


@pytest.fixture
def job(machines, folder):
    """Writes a job for both machines, in a folder of theirs that only this test has; that folder."""
    there = folder.parent / "there"

    def write(script, per_node=1, more=""):
        (folder / "train.py").write_text(script)
        (folder / "job.yaml").write_text(
            f"script: train.py\nname: train\npython: {sys.executable}\nhardware: {{kind: cpu, per_node: {per_node}}}\n"
            f"nodes: {{rendezvous: {{address: {ADDRESSES['m1']}}}}}\nenv: {{GLOO_SOCKET_IFNAME: eth0}}\n"
            "target:\n  kind: ssh\n  hosts: [m1, m2]\n"
            f"  config: {machines.config}\n  folder: {there}\n"
            "  ssh_args: [-o, ServerAliveInterval=3, -o, ServerAliveCountMax=3]\n" + more
        )
        return there / "train/files"

    return write


def pids(folder, pattern, count):
    """The processes that have written where they are, with their network."""

    def found():
        texts = [path.read_text().split() for path in sorted(folder.glob(pattern))]
        return [(int(text[0]), text[1]) for text in texts if len(text) == 2]

    wait_for(lambda: len(found()) == count)
    return found()


@pytest.mark.parametrize("backend", ["c10d", "static"])
def test_machines_meet_over_their_network(jobc_command, job, backend):
    """Four ranks of two machines gather, and each machine's are in its own network."""
    job(GATHER, per_node=2)
    done = jobc_command("run", "job.yaml", f"nodes.rendezvous.backend={backend}")
    assert done.returncode == 0, done.stderr
    lines = [line.partition(" in ") for line in sorted(done.stdout.splitlines())]
    assert [line[0] for line in lines] == [f"[{rank}] gathered [0, 1, 2, 3]" for rank in range(4)]
    assert lines[0][2] == lines[1][2] != lines[2][2] == lines[3][2]


def test_machine_whose_cable_is_cut_ends_the_run_and_is_named(jobc_command, folder, machines, job):
    """Its connection goes silent: ssh notices, the other machine's processes end, and so do those behind the cable."""
    files = job(SLEEP)
    assert jobc_command("run", "-d", "job.yaml", "nodes.rendezvous.backend=static").returncode == 0
    running = pids(files, "pid.[01]", 2)
    ip("link", "set", machines.names["m2"], "down")
    try:
        assert jobc_command("wait", "last").returncode == 255
        (log,) = (folder.parent / "state/jobc/runs").glob("*/logs/run.log")
        assert "on m2 failed: it could not be reached, or the connection to it was lost" in log.read_text()
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid, _ in running))
    finally:
        ip("link", "set", machines.names["m2"], "up")


@pytest.mark.parametrize("who", ["process", "agent"])
def test_what_is_killed_on_one_machine_starts_again_on_both(jobc_command, job, who):
    """A process of the second machine, or all of it with its agent: all start again, meet, and the job ends well."""
    files = job(TWICE, per_node=2)
    assert jobc_command("run", "-d", "job.yaml", "nodes.max_restarts=1").returncode == 0
    second = [pid for pid, node in pids(files, "pid.*", 4) if node == "1"]
    agent = int(Path(f"/proc/{second[0]}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(agent if who == "agent" else second[0], signal.SIGKILL)
    ended = jobc_command("wait", "last")
    said = jobc_command("logs", "last").stdout
    assert ended.returncode == 0, said
    assert sorted(line for line in said.splitlines() if "gathered" in line) == [
        f"[{rank}] gathered [0, 1, 2, 3] again" for rank in range(4)
    ]


ELASTIC = """
import os, time, torch
from pathlib import Path
from jobc import Accelerator
accelerator = Accelerator()
here = accelerator.process_index
Path(f"pid.{here}").write_text(f"{os.getpid()} {os.environ['GROUP_RANK']}")
print("gathered", accelerator.gather(torch.tensor([here])).tolist(), flush=True)
while accelerator.num_processes == 2:
    time.sleep(0.1)
    accelerator.gather(torch.ones(1))
"""
LATE = """
import time, torch
from jobc import Accelerator
accelerator = Accelerator()
print("steps of", accelerator.gradient_accumulation_steps, flush=True)
while accelerator.num_processes == 1:
    time.sleep(0.1)
print("gathered", accelerator.gather(torch.tensor([accelerator.process_index])).tolist(), flush=True)
"""
GOES_ON = ("nodes.elastic.min=1", "nodes.max_restarts=1")


def test_run_goes_on_without_a_machine_that_is_lost(jobc_command, folder, machines, job):
    """The cable is cut, the machine cannot be reached again, and the other one trains on alone."""
    files = job(ELASTIC)
    conf = "nodes.rendezvous.conf={last_call_timeout: 2, keep_alive_interval: 1}"
    words = (*GOES_ON, "nodes.collective_timeout=5", conf)
    assert jobc_command("run", "-d", "job.yaml", *words).returncode == 0
    pids(files, "pid.[01]", 2)
    ip("link", "set", machines.names["m2"], "down")
    try:
        ended = jobc_command("wait", "last")
    finally:
        ip("link", "set", machines.names["m2"], "up")
    (log,) = (folder.parent / "state/jobc/runs").glob("*/logs/run.log")
    assert ended.returncode == 0, log.read_text()
    assert "jobc: the machine m2 failed: exit code 255; the run goes on with 1 machine\n" in log.read_text()
    assert "[0] gathered [0]\n" in log.read_text()


def test_machine_that_comes_late_is_taken_in(jobc_command, job):
    """The first machine begins alone; when the second is there both start again together, with shorter windows."""
    late = "setup: ['[ $(hostname) = m1 ] || sleep 8']\ntraining: {global_batch: 8, micro_batch: 2}\n"
    job(LATE, more=late)
    done = jobc_command("run", "job.yaml", *GOES_ON, "nodes.rendezvous.conf={last_call_timeout: 1}")
    assert done.returncode == 0, done.stderr
    said = sorted(done.stdout.splitlines())
    assert {"[0] steps of 2", "[1] steps of 2"} < set(said)
    assert [line for line in said if "gathered" in line] == ["[0] gathered [0, 1]", "[1] gathered [0, 1]"]


def test_first_machine_cannot_be_lost(jobc_command, machines, job):
    """It is where all meet: the run ends when it is gone."""
    files = job(SLEEP)
    assert jobc_command("run", "-d", "job.yaml", *GOES_ON).returncode == 0
    pids(files, "pid.[01]", 2)
    ip("link", "set", machines.names["m1"], "down")
    try:
        ended = jobc_command("wait", "last")
    finally:
        ip("link", "set", machines.names["m1"], "up")
    assert ended.returncode == 255
