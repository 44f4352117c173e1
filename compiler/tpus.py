"""Settings of TPUs that contradict their type, their runtime or the rest of the job."""

from __future__ import annotations

from collections.abc import Iterator

from ..spec import Finding, ResolvedSpec, finding
from ..spec.hardware import Tpu


def check(spec: ResolvedSpec) -> Iterator[Finding]:
    """Machines and processes that are not those of the type."""
    hardware = spec.job.hardware
    if not isinstance(hardware, Tpu):
        return
    path, per_node = "hardware.per_node", hardware.per_node
    if hardware.runtime == "spmd" and per_node != 1:
        cause = f"`hardware.runtime: spmd` has one process on each machine, and `{path}` is {per_node}"
        yield finding("J312", cause, place=spec.place(path), next_step=f"leave `{path}` out")
    if hardware.type is None:
        return
    from ..spec.catalogue import tpus

    found = tpus().named(hardware.type)
    if found is None:
        return
    generation, number = found
    hosts, devices = generation.hosts(number), generation.per_host(number)
    if spec.job.nodes.count != hosts:
        cause = f"`hardware.type: {hardware.type}` is {_count(hosts, 'machine')}, and `nodes` is {spec.job.nodes.count}"
        place = spec.place("nodes.count") or spec.place("target.hosts") or spec.place("hardware.type")
        yield finding("J313", cause, place=place, next_step="leave `nodes` out: it follows from the type")
    if hardware.runtime != "spmd" and per_node != devices:
        cause = f"each machine of a {hardware.type} has {_count(devices, 'device')}, and `{path}` is {per_node}"
        yield finding("J312", cause, place=spec.place(path), next_step=f"leave `{path}` out: it follows from the type")


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' if number > 1 else ''}"
