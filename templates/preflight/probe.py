"""What a machine says of itself before a job runs there: one line of JSON. Any Python 3 runs it, without jobc."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time


def torch_version():
    """The version of torch that is installed, which is known without importing it."""
    try:
        from importlib import metadata

        return metadata.version("torch")
    except Exception:  # none, or a Python without such a module
        return None


def listed_gpus():
    """GPUs that the driver lists, whatever torch can use."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith(b"GPU ") for line in done.stdout.splitlines())


def usable_gpus():
    """GPUs that torch can use; where there is no torch, those that the driver lists."""
    try:
        import torch

        return torch.cuda.device_count()
    except Exception:  # torch is not there, or is broken in any of many ways
        return listed_gpus()


def port_fault(port):
    """Why a process cannot listen on a port, or None."""
    for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            probe = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            continue
        with probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if family == socket.AF_INET:
                    return error.strerror
    return None


def address_of(name):
    """Whether an address is one of this machine's, and why it cannot be looked up, where it cannot."""
    try:
        found = socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM)
    except OSError as error:
        return False, error.strerror or str(error)
    for family, kind, protocol, _, where in found:
        with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as probe:
            probe.bind(where)
            return True, None
    return False, None


def disk(folder):
    """Bytes that are free where a folder is or would be made, and why nothing can be written there."""
    folder = os.path.join(os.path.expanduser("~"), folder)
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    fault = None
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        fault = f"{folder}: {error.strerror}"
    return shutil.disk_usage(folder).free, fault


def memory():
    """Bytes of memory that can be had now, or None."""
    with contextlib.suppress(OSError, ValueError), open("/proc/meminfo") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def main(kind, port, address, folder):
    """Prints the line."""
    mine, lookup_fault = address_of(address) if address else (True, None)
    free, write_fault = disk(folder)
    said = {
        "python": ".".join(map(str, sys.version_info[:3])),
        "executable": sys.executable,
        "torch": torch_version(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpus": usable_gpus() if kind == "gpu" else None,
        "listed_gpus": listed_gpus() if kind == "gpu" else None,
        "memory": memory(),
        "disk": free,
        "write_fault": write_fault,
        "port_fault": port_fault(int(port)) if port else None,
        "mine": mine,
        "lookup_fault": lookup_fault,
    }
    said["time"] = time.time()
    print("\njobc-preflight report " + json.dumps(said), flush=True)
    os._exit(0)  # what torch does at its end would count as time that the line was on its way


main(*sys.argv[1:])
