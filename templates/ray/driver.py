"""What a job of jobc runs on a Ray cluster: the same commands on every node that Ray gives it, started together.

It reads job.json beside it. What the commands write goes to its own output; when one fails it ends the others, and its
exit code is that of the process which failed first.
"""

import base64
import contextlib
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

SECRETS = "JOBC_RAY_SECRETS"  # what submit.py put into the runtime environment; no process of the job sees it
MOST = 4000  # lines that are handed over at once
TIMED_OUT = 124
#: torchrun exits with 1 whatever its processes did; its report says what that was.
ROOT = re.compile(rb"Root Cause \(first observed failure\):")
CODE = re.compile(rb"^ *exitcode +: (-?\d+) ")
RANK = re.compile(rb"^ *rank +: (\d+) ")
TAGGED = re.compile(rb"\[\d+\] ")


class Node:
    """One node: unpacks the job's files, starts its commands, and hands out what they write until they have ended."""

    def __init__(self):
        self.told = queue.Queue(maxsize=4 * MOST)
        self.processes = {}

    def meet(self):
        """The address of this node, and a port that is free here."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return ray.util.get_node_ip_address(), probe.getsockname()[1]

    def start(self, job, number, head, port, secrets):
        """Start the commands."""
        unpack(os.path.join(os.path.expanduser("~"), job["folder"]))
        env = {**environment(), **secrets}
        for index, command in enumerate(job["commands"]):
            rank = command["rank"]
            tag = b"" if rank is None else b"[%d] " % (number * job["per_node"] + rank)
            words = ["bash", os.path.abspath(command["script"]), str(number), head, str(port), sys.executable]
            process = subprocess.Popen(
                words,
                cwd=os.path.expanduser("~"),
                env=env,
                stdin=subprocess.PIPE,  # open until the command is to end; the system closes it when we are gone
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            self.processes[index] = process
            threading.Thread(target=self.read, args=(index, process, tag), daemon=True).start()

    def read(self, index, process, tag):
        """Take what a command writes, line by line, until it has ended; then its exit code."""
        for line in iter(process.stdout.readline, b""):
            self.told.put((index, tag + line))
        self.told.put((index, process.wait()))

    def poll(self):
        """What came since the last time, after a second at most: a line, or an exit code, and of which command."""
        found = []
        with contextlib.suppress(queue.Empty):
            found.append(self.told.get(timeout=1.0))
            while len(found) < MOST:
                found.append(self.told.get_nowait())
        return found

    def stop(self):
        """Ask all commands to end; their scripts end them half a minute later."""
        for process in self.processes.values():
            if not process.stdin.closed:
                process.stdin.close()


def environment():
    """What the processes inherit: the worker's variables without what Ray set for itself."""
    env = {name: value for name, value in os.environ.items() if name not in (SECRETS, "OMP_NUM_THREADS")}
    paths = [path for path in env.pop("PYTHONPATH", "").split(os.pathsep) if path and path != os.getcwd()]
    return {**env, "PYTHONPATH": os.pathsep.join(paths)} if paths else env


def unpack(folder):
    """Put the job's files where they belong, each at once: another node of this machine may be doing the same."""
    with tarfile.open("files.tar.gz") as archive:
        for entry in archive:
            path = os.path.join(folder, entry.name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".jobc-", dir=os.path.dirname(path))
            with os.fdopen(handle, "wb") as file:
                file.write(archive.extractfile(entry).read())
            os.chmod(name, entry.mode)
            os.replace(name, path)


def placed(job):
    """A place on as many nodes as the job has, each another one, once Ray has them."""
    group = placement_group([job["bundle"]] * job["nodes"], strategy="STRICT_SPREAD")
    waiting = [group.ready()]
    while not ray.wait(waiting, timeout=60)[0]:
        wanted = ", ".join(f"{name}: {amount:g}" for name, amount in sorted(job["bundle"].items()))
        say(f"waits for {job['nodes']} nodes with {wanted} each; the cluster has {ray.cluster_resources()}")
    return group


def actors(job, group):
    """A Node in each place of the group, which has all of the place."""
    amounts = dict(job["bundle"])
    cpus, gpus = amounts.pop("CPU", 0), amounts.pop("GPU", 0)
    kind = ray.remote(max_concurrency=4)(Node)
    return [
        kind.options(
            num_cpus=cpus,
            num_gpus=gpus,
            resources=amounts,
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index),
        ).remote()
        for index in range(job["nodes"])
    ]


def say(words):
    """A line of our own."""
    sys.stdout.write(f"jobc: {words}\n")
    sys.stdout.flush()


class Failure:
    """What a node's commands wrote of their failure."""

    def __init__(self):
        self.root = False
        self.rank = None
        self.code = None

    def look(self, line):
        """Take note of a line of torchrun's report; the last report counts."""
        if ROOT.search(line):
            self.root, self.rank, self.code = True, None, None
        elif self.root and self.code is None:
            rank, code = RANK.match(line), CODE.match(line)
            self.rank = int(rank.group(1)) if rank else self.rank
            self.code = int(code.group(1)) if code else None


class Run:
    """The commands of all nodes, from their start to their end."""

    def __init__(self, job, nodes):
        self.job, self.nodes = job, nodes
        self.failures = [Failure() for _ in nodes]
        self.left = [len(job["commands"]) for _ in nodes]
        self.code = 0
        self.stopping = False

    def follow(self):
        """Forward what is written until everything has ended."""
        deadline = None if self.job["seconds"] is None else time.monotonic() + self.job["seconds"]
        asked = {node.poll.remote(): number for number, node in enumerate(self.nodes)}
        while asked:
            for answer in ray.wait(list(asked), timeout=1.0)[0]:
                number = asked.pop(answer)
                if self.take(number, answer):
                    asked[self.nodes[number].poll.remote()] = number
            if deadline is not None and time.monotonic() > deadline and not self.stopping:
                say(f"ended after its time limit of {self.job['seconds']:g} s")
                self.end(TIMED_OUT)
        return self.code

    def take(self, number, answer):
        """Show what a node says; whether it goes on."""
        try:
            found = ray.get(answer)
        except ray.exceptions.RayError as error:
            if not self.stopping:
                say(f"node {number} was lost: {str(error).strip().splitlines()[0]}")
                self.end(1)
            return False
        for index, what in found:
            if isinstance(what, bytes):
                self.show(number, what)
                continue
            self.left[number] -= 1
            if what and not self.stopping:
                self.end(self.blame(number, index, what))
        return self.left[number] > 0

    def show(self, number, line):
        """One line; what is not of one process has its node before it."""
        self.failures[number].look(line)
        several = len(self.nodes) > 1 and not TAGGED.match(line)
        sys.stdout.buffer.write(b"(node %d) " % number + line if several else line)
        sys.stdout.buffer.flush()

    def blame(self, number, index, code):
        """Say which process failed, as far as it is known; its exit code."""
        failure, rank = self.failures[number], self.job["commands"][index]["rank"]
        if failure.code is not None:
            rank, code = failure.rank, failure.code
        elif rank is not None:
            rank += number * self.job["per_node"]
        if code > 128:  # what bash makes of a signal
            code = 128 - code
        who = f"node {number}" if rank is None else f"rank {rank}"
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        say(f"{who} failed: {how}")
        return 128 - code if code < 0 else code

    def end(self, code):
        """Ask everything to end; the first reason is the run's."""
        self.stopping = True
        self.code = code
        for node in self.nodes:
            node.stop.remote()


def main():
    """The run."""
    with open("job.json") as file:
        job = json.load(file)
    secrets = json.loads(base64.b64decode(os.environ.pop(SECRETS, "") or b"e30="))
    ray.init(log_to_driver=False, logging_level="warning")
    nodes = actors(job, placed(job))
    head, port = ray.get(nodes[0].meet.remote())
    port = job["port"] or port
    ray.get([node.start.remote(job, number, head, port, secrets) for number, node in enumerate(nodes)])
    run = Run(job, nodes)
    signal.signal(signal.SIGTERM, lambda number, _: run.end(128 + number))
    return run.follow()


if __name__ == "__main__":
    sys.exit(main())
