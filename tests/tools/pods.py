"""Pods that podman runs on this machine, with an image that is this machine: its programs, its Python, this checkout.

A pod asks for `image: localhost/machine:1`, which is empty: podman mounts folders of the machine in every container.
Needs root.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from io import BytesIO
from pathlib import Path

import processes
import yaml

IMAGE = "localhost/machine:1"
MARK = "JOBC_TEST_PODS"  # in the environment of what is started here
ROOT = Path(__file__).parents[2]
# runc, as crun refuses control groups of both versions at once; limits that may be set wherever tests run.
CONFIG = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
volumes = {volumes}
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


class Podman:
    """A podman of its own, whose images and containers are in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.env = {"CONTAINERS_CONF": str(self.folder / "containers.conf"), MARK: str(self.folder)}
        self.marks = {MARK: str(self.folder)}
        self._making = threading.Lock()  # two pods with a volume of one name would both make it

    def start(self) -> None:
        """Until there is an image."""
        self.folder.mkdir(exist_ok=True)
        volumes = json.dumps([f"{place}:{place}" for place in sorted({"/usr", sys.base_prefix, str(ROOT)})])
        Path(self.env["CONTAINERS_CONF"]).write_text(CONFIG.format(volumes=volumes))
        archive = self.folder / "machine.tar"
        with tarfile.open(archive, "w") as files:
            for name in ("usr", "etc", "tmp", "proc", "sys", "dev", "run", "root"):
                files.addfile(_entry(name, tarfile.DIRTYPE, mode=0o1777 if name == "tmp" else 0o755))
            for name in ("bin", "sbin", "lib", "lib64"):
                files.addfile(_entry(name, tarfile.SYMTYPE, target=f"usr/{name}"))
            for name in ("etc/passwd", "etc/group"):
                content = Path("/", name).read_bytes()
                files.addfile(_entry(name, tarfile.REGTYPE, size=len(content)), BytesIO(content))
        self.run("import", "--quiet", "--change=ENV PATH=/usr/local/bin:/usr/bin:/bin", str(archive), IMAGE)

    def stop(self) -> None:
        """Remove pods and containers, and end whatever they started."""
        self.run("pod", "rm", "--force", "--all", check=False)
        self.run("rm", "--force", "--all", check=False)
        processes.end(lambda pid: processes.variable(pid, MARK) == str(self.folder))

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command of podman's."""
        places = ["--root", f"{self.folder}/root", "--runroot", f"{self.folder}/run", "--tmpdir", f"{self.folder}/tmp"]
        words = ["podman", *places, "--storage-driver=vfs", *command]
        done = subprocess.run(words, env={**os.environ, **self.env}, capture_output=True, text=True, timeout=200)
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done

    def play(self, pod: dict) -> dict[str, tuple[int, str]]:
        """Runs a pod to its end: by container, the exit code and what it printed."""
        manifest = self.folder / f"{pod['metadata']['name']}.yaml"
        manifest.write_text(yaml.safe_dump(pod))
        try:
            with self._making:
                self.run("kube", "play", "--network=host", str(manifest))
            ended = {}
            for container in pod["spec"]["containers"]:
                name = f"{pod['metadata']['name']}-{container['name']}"
                code = int(self.run("wait", name).stdout)
                logs = self.run("logs", name)
                ended[container["name"]] = (code, logs.stdout + logs.stderr)
            return ended
        finally:
            self.run("kube", "down", str(manifest), check=False)


def _entry(name: str, kind: bytes, *, mode: int = 0o644, target: str = "", size: int = 0) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.linkname, entry.size = kind, mode, target, size
    return entry


def missing() -> str | None:
    """Why there can be no pods here, with what helps."""
    if not all(shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in ("podman", "runc", "conmon")):
        return "podman is not installed: make engines"
    if os.geteuid() != 0:
        return "podman is started as root here"
    return None
