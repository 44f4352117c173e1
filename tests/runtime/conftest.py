"""Training processes started for real, and resolved jobs written on the spot."""

import base64
import os
import socket
import subprocess
import sys
import zlib

import msgspec
import pytest
import torch
from jobc.spec.model import Job
from jobc.spec.resolved import ResolvedSpec
from jobc.spec.tree import Origin

_OURS = ("JOBC_SPEC", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def document(values, explicit=()):
    """The JSON of a resolved job; the paths in `explicit` come from line 7 of job.yaml."""
    job = msgspec.convert({"name": "test", "paradigm": {"kind": "none"}, **values}, Job)
    origin = Origin(layer="file", source="job.yaml", line=7, column=3, length=4)
    spec = ResolvedSpec(job=job, origins=dict.fromkeys(explicit, origin))
    return msgspec.json.encode(spec.document())


@pytest.fixture(scope="session", autouse=True)
def _compiler():
    """The first optimizer of a process imports torch's compiler, which writes a variable; better before any test."""
    torch.optim.SGD([torch.zeros(1, requires_grad=True)])


@pytest.fixture
def job(tmp_path):
    """Writes a resolved job and returns its path."""

    def write(values, explicit=()):
        path = tmp_path / "spec.json"
        path.write_bytes(document(values, explicit))
        return path

    return write


@pytest.fixture
def packed():
    """A resolved job as the value that travels in the environment itself."""

    def pack(values, explicit=()):
        return "z:" + base64.urlsafe_b64encode(zlib.compress(document(values, explicit))).decode()

    return pack


def clean_environment(**extra):
    env = {name: value for name, value in os.environ.items() if name not in _OURS}
    return {**env, "OMP_NUM_THREADS": "1", **{name: str(value) for name, value in extra.items()}}


@pytest.fixture(scope="session")
def launch():
    """Runs a script in several processes through torchrun; the finished process with its output."""

    def start(script, *args, processes=2, options=(), timeout=100, **env):
        agent = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [*agent, *options, "--", str(script), *map(str, args)]
        return subprocess.run(
            command, env=clean_environment(**env), capture_output=True, text=True, timeout=timeout, check=False
        )

    return start


@pytest.fixture(scope="session")
def alone():
    """Runs a script in one process of plain Python."""

    def start(script, *args, **env):
        command = [sys.executable, str(script), *map(str, args)]
        return subprocess.run(
            command, env=clean_environment(**env), capture_output=True, text=True, timeout=200, check=False
        )

    return start


@pytest.fixture(scope="session")
def pair():
    """Runs a script in two processes that no agent looks after, as the launcher `python` does."""

    def start(script, *args):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        meet = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        running = [
            subprocess.Popen(
                [sys.executable, str(script), *map(str, args)],
                env=clean_environment(RANK=rank, LOCAL_RANK=rank, **meet),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        ended = [process.communicate(timeout=120) for process in running]
        return [(process.returncode, *texts) for process, texts in zip(running, ended, strict=True)]

    return start
