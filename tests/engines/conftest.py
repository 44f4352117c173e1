"""Real engines on loopback addresses, started for the tests that need them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import processes
import pytest
from containers import Containers, ip
from environments import Environment
from pods import Podman
from pods import missing as podman_is_missing
from ray_nodes import Ray
from slurm import Slurm
from slurm import missing as slurm_is_missing
from slurm_accounting import missing as accounting_is_missing
from slurm_jobs import Cluster

SSHD = "/usr/sbin/sshd"


@pytest.fixture(scope="session")
def ssh_hosts(tmp_path_factory):
    """Two sshd on loopback addresses, as the machines n1 and n2 of an ssh_config; its path, and a way to end one."""
    if not (Path(SSHD).exists() and shutil.which("rsync")):
        pytest.skip("sshd and rsync are not installed: make engines")
    if os.geteuid() != 0:
        pytest.skip("sshd is started as root here")
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("host", "user", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    (folder / "authorized").write_text((folder / "user.pub").read_text())
    Path("/run/sshd").mkdir(exist_ok=True)
    ports, running = {}, {}
    for name, address in (("n1", "127.0.0.2"), ("n2", "127.0.0.3")):
        with socket.socket() as free:
            free.bind((address, 0))
            ports[name] = (address, free.getsockname()[1])
        (folder / f"{name}.sshd").write_text(
            f"ListenAddress {address}:{ports[name][1]}\nHostKey {folder}/host\nPidFile {folder}/{name}.pid\n"
            f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\nMaxStartups 50\n"
        )
        running[name] = subprocess.Popen([SSHD, "-D", "-f", folder / f"{name}.sshd"], stderr=subprocess.DEVNULL)
    home = folder / "home"
    home.mkdir()
    config = folder / "config"
    config.write_text(
        f"Host stranger\n  HostName 127.0.0.2\n  Port {ports['n1'][1]}\n  IdentityFile {folder}/other\n"
        f"Host n1 n2 nobody\n  IdentityFile {folder}/user\n"
        "Host *\n  User root\n  IdentitiesOnly yes\n  StrictHostKeyChecking no\n"
        f"  UserKnownHostsFile {folder}/known\n  LogLevel ERROR\n"
        + "".join(f"Host {name}\n  HostName {address}\n  Port {port}\n" for name, (address, port) in ports.items())
        + "Host nobody\n  HostName 127.0.0.9\n  Port 9\n"
    )
    for address, port in ports.values():
        _until_open(address, port)
    yield config
    for process in running.values():
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def _until_open(address, port):
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex((address, port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on {address}:{port}")


@pytest.fixture
def ssh_job(ssh_hosts, folder, request):
    """Writes a job for the two machines, in a folder of theirs that only this test has."""
    there = f"/tmp/jobc-test-{os.getpid()}-{abs(hash(request.node.name)) % 10**8}"

    def write(script, more="", hosts="[n1, n2]", per_node=1):
        (folder / "train.py").write_text(script)
        (folder / "job.yaml").write_text(
            f"script: train.py\nname: train\npython: {sys.executable}\nhardware: {{kind: cpu, per_node: {per_node}}}\n"
            f"target: {{kind: ssh, hosts: {hosts}, config: {ssh_hosts}, folder: {there}}}\n"
            f"nodes: {{rendezvous: {{address: 127.0.0.2}}}}\n{more}"
        )
        return Path(there)

    yield write
    shutil.rmtree(there, ignore_errors=True)


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """A Slurm of two nodes, jobc-n1 and jobc-n2; its `env` is for the commands that should find it."""
    yield from _slurm(tmp_path_factory)


@pytest.fixture
def breakable_slurm(tmp_path_factory):
    """Such a Slurm for one test, which breaks a node of it."""
    yield from _slurm(tmp_path_factory)


@pytest.fixture(scope="session")
def slurm_accounting(tmp_path_factory):
    """Another such Slurm, which remembers jobs: sacct answers."""
    yield from _slurm(tmp_path_factory, accounting=True)


def _slurm(tmp_path_factory, *, accounting=False):
    if why := slurm_is_missing() or (accounting and accounting_is_missing()):
        pytest.skip(why)
    yield from _running(Slurm(tmp_path_factory.mktemp("slurm"), accounting=accounting))


@pytest.fixture(scope="session")
def ray_cluster(engine):
    """A Ray of two nodes, 127.0.0.2 and 127.0.0.3; its `env` is for the commands that should find it."""
    with tempfile.TemporaryDirectory(prefix="jobc-ray-") as folder:
        yield from _running(Ray(Path(folder), engine("ray")))


@pytest.fixture(scope="session")
def podman():
    """Runs pods to their end; their image is this machine. Its folder has a short name, as podman wants it."""
    if why := podman_is_missing():
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="jobc-pods-") as folder:
        yield from _running(Podman(Path(folder)))


def _running(engine):
    """An engine that is started and stopped; ended too where this process is killed."""
    with processes.guarded(**engine.marks):
        try:
            engine.start()
            yield engine
        finally:
            engine.stop()


@pytest.fixture
def cluster(slurm, folder, jobc_command, monkeypatch):
    """The cluster, whose programs and whose Python are found, and what tests do with jobs on it."""
    monkeypatch.setenv("SLURM_CONF", slurm.env["SLURM_CONF"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return Cluster(slurm, folder, jobc_command)


@pytest.fixture
def breakable_cluster(breakable_slurm, folder, jobc_command, monkeypatch):
    """The same with the cluster of this test alone."""
    monkeypatch.setenv("SLURM_CONF", breakable_slurm.env["SLURM_CONF"])
    return Cluster(breakable_slurm, folder, jobc_command)


@pytest.fixture(scope="session")
def engine():
    """The Python environment of an engine, by its name in .engines."""

    def find(name):
        found = Environment(name)
        if not found.installed:
            pytest.skip(f"{name} is not installed: make engines")
        return found

    return find


@pytest.fixture(scope="session")
def containers():
    """Two hosts for the containers of a training job of SageMaker."""
    if not shutil.which("ip"):
        pytest.skip("ip is not installed: make engines")
    made = Containers()
    probe = subprocess.run(["ip", "netns", "add", f"{made.tag}probe"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"no network namespace can be made here: {probe.stderr.strip()}")
    ip("netns", "del", f"{made.tag}probe")
    try:
        made.start()
        yield made
    finally:
        made.end()
