"""Hosts on which the script of a training job of SageMaker is started as SageMaker would start it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import msgspec
from jobc.compiler.plan import CallApi, PackFiles, WriteFile, canonical
from jobc.executor.packing import pack
from sagemaker_jobs import filled

ADDRESSES = {"algo-1": "10.213.78.1", "algo-2": "10.213.78.2"}
ML = Path("/opt/ml")


def ip(*words):
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


class Containers:
    """Two hosts with networks and names of their own, and an /opt/ml each, on which a job's script is started."""

    def __init__(self):
        self.tag = f"sm{os.getpid() % 10**7}"
        self.names = {name: f"{self.tag}{name[-1]}" for name in ADDRESSES}
        self.made_ml = not ML.exists()

    def start(self):
        """Make the networks."""
        ML.mkdir(exist_ok=True)
        ip("link", "add", self.tag, "type", "bridge")
        ip("link", "set", self.tag, "up")
        for name, address in ADDRESSES.items():
            there = self.names[name]
            ip("netns", "add", there)
            ip("link", "add", there, "type", "veth", "peer", "name", "eth0", "netns", there)
            ip("link", "set", there, "master", self.tag, "up")
            ip("-n", there, "addr", "add", f"{address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", there, "link", "set", device, "up")
            known = Path("/etc/netns", there)
            known.mkdir(parents=True)
            lines = "".join(f"{address} {name}\n" for name, address in ADDRESSES.items())
            (known / "hosts").write_text(f"127.0.0.1 localhost\n{lines}")
            (known / "resolv.conf").write_text("")

    def end(self):
        """End what still runs there, and remove all."""
        for there in self.names.values():
            for pid in subprocess.run(["ip", "netns", "pids", there], capture_output=True, text=True).stdout.split():
                os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", there], capture_output=True)
            shutil.rmtree(Path("/etc/netns", there), ignore_errors=True)
        for link in (*self.names.values(), self.tag):
            subprocess.run(["ip", "link", "del", link], capture_output=True)
        if self.made_ml:
            ML.rmdir()

    def run(self, made, project, root, hosts=None):
        """The processes that SageMaker would start: the request's entry point, its channel and its configuration there."""
        request = created(made)
        entry = request["AlgorithmSpecification"]
        hosts = list(ADDRESSES)[: hosts or request["ResourceConfig"]["InstanceCount"]]
        running = []
        for name in hosts:
            ml = root / name
            (ml / "input/config").mkdir(parents=True)
            for channel in request["InputDataConfig"]:
                (ml / "input/data" / channel["ChannelName"]).mkdir(parents=True)
            (ml / "model").mkdir()
            config = {"current_host": name, "hosts": sorted(hosts), "network_interface_name": "eth0"}
            (ml / "input/config/resourceconfig.json").write_text(json.dumps(config))
            for file, content in uploaded(made, project).items():
                (ml / "input/data/code" / file).write_bytes(content)
            inside = f'hostname {name} && mount --bind "$0" /opt/ml && exec "$@"'
            command = ["ip", "netns", "exec", self.names[name], "unshare", "--uts", "--mount", "sh", "-c", inside, ml]
            command += [*entry["ContainerEntrypoint"], *entry["ContainerArguments"]]
            env = {**os.environ, "TRAINING_JOB_NAME": request["TrainingJobName"], **request.get("Environment", {})}
            with (ml / "log").open("wb") as log:
                running.append(subprocess.Popen(command, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL))
        return running


def created(made):
    """The request as it is sent."""
    step = next(step for step in made.submit if isinstance(step, CallApi) and step.operation == "CreateTrainingJob")
    return filled(msgspec.to_builtins(step.request), {"run_word": "train-20261121-101500-3f2a", "TOKEN": "secret"})


def uploaded(made, folder):
    """The files of the channel `code`, as the executor makes them."""
    script = next(step.content for step in made.submit if isinstance(step, WriteFile) and isinstance(step.content, str))
    files = next(step.files for step in made.submit if isinstance(step, PackFiles))
    document = canonical(made.document())
    return {"node.sh": script.encode(), "source.tar.gz": pack(folder, files), "spec.json": document}
