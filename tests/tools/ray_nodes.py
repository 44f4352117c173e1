"""A Ray cluster of two nodes on this machine, on loopback addresses and free ports.

.engines/ray/bin/python tests/tools/ray_nodes.py FOLDER       runs until Ctrl-C; prints the address of its jobs

Each node has two processors, 200 MB for objects, and four GPUs that are none.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import processes
from environments import Environment
from ports import free_ports

ADDRESSES = ("127.0.0.2", "127.0.0.3")
MARK = "JOBC_TEST_RAY"  # in the environment of what is started here


class Ray:
    """A cluster whose files are in `folder`; `env` is what points `ray job` at it, `dashboard` the same as an address.

    Sockets are below the folder, so that its path is short.
    """

    def __init__(self, folder: Path, engine: Environment) -> None:
        self.folder, self.engine = folder.resolve(), engine
        gcs, dashboard = free_ports(2)
        self.address = f"{ADDRESSES[0]}:{gcs}"
        self.dashboard = f"http://{ADDRESSES[0]}:{dashboard}"
        self.env = {**engine.variables(os.environ["PATH"]), "RAY_ADDRESS": self.dashboard}
        self._nodes: list[subprocess.Popen[bytes]] = []
        self.marks = {MARK: str(self.folder)}

    def start(self) -> None:
        """Until both nodes are alive and jobs are taken."""
        server = ["--dashboard-host", ADDRESSES[0], "--dashboard-port", self.dashboard.rpartition(":")[2]]
        server += ["--port", self.address.rpartition(":")[2], "--ray-client-server-port", str(free_ports(1)[0])]
        self._start(ADDRESSES[0], "--head", *server)
        self._until(lambda: self._alive() == 1)
        self._start(ADDRESSES[1], "--address", self.address)
        self._until(lambda: self._alive() == 2)

    def stop(self) -> None:
        """End the nodes, and whatever they started; by process id (`ray stop` ends by name)."""
        for node in reversed(self._nodes):
            node.send_signal(signal.SIGTERM)
            processes.until(lambda node=node: node.poll() is not None, 10)
        processes.end(self._is_ours)
        for node in self._nodes:
            node.wait(10)

    def run(self, *command: str, **options) -> subprocess.CompletedProcess[str]:
        """A command of the environment, `ray job ...` or python, pointed at the cluster."""
        env = {**os.environ, **self.env}
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, **options)

    def _start(self, address: str, *options: str) -> None:
        agent, grpc, metrics, runtime = map(str, free_ports(4))
        ports = ["--dashboard-agent-listen-port", agent, "--dashboard-agent-grpc-port", grpc]
        ports += ["--metrics-export-port", metrics, "--runtime-env-agent-port", runtime]
        size = ["--num-cpus=2", "--num-gpus=4", "--object-store-memory=200000000"]
        where = ["--node-ip-address", address, *(["--temp-dir", str(self.folder)] if "--head" in options else [])]
        command = [str(self.engine.bin / "ray"), "start", "--block", "--disable-usage-stats", *options]
        with (self.folder / f"{address}.log").open("wb") as log:
            env = {**os.environ, **self.engine.variables(os.environ["PATH"]), MARK: str(self.folder)}
            node = subprocess.Popen([*command, *where, *size, *ports], env=env, stdout=log, stderr=log)
        self._nodes.append(node)

    def _alive(self) -> int:
        query = f"{self.dashboard}/api/v0/nodes?filter_keys=state&filter_predicates=%3D&filter_values=ALIVE"
        try:
            with urllib.request.urlopen(query, timeout=5) as answer:
                return answer.read().count(b'"node_ip"')
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return 0

    def _until(self, condition) -> None:
        def failed() -> bool:
            return any(node.poll() is not None for node in self._nodes)

        processes.until(lambda: condition() or failed(), 90)
        logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in self.folder.glob("*.log"))
        assert not failed(), f"a node has ended:\n{logs}"
        assert condition(), f"the cluster did not come up:\n{logs}"

    def _is_ours(self, pid: int) -> bool:
        return processes.variable(pid, MARK) == str(self.folder)


if __name__ == "__main__":
    cluster = Ray(Path(sys.argv[1]), Environment("ray"))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        cluster.start()
        print(f"export RAY_ADDRESS={cluster.dashboard}", flush=True)
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        cluster.stop()
