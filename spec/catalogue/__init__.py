"""Accelerators and the machines that have them: data files with their sources, read when something asks for them."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec


class Accelerator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model of accelerator, as accelerators.toml describes it."""

    title: str
    memory_gb: tuple[int, ...]
    bf16: bool
    fp8: bool
    tflops: dict[Literal["half", "fp8"], float]
    link: str
    names: tuple[str, ...]
    source: str

    def is_called(self, device: str) -> bool:
        """Whether a device that calls itself so is of this model: `NVIDIA H100 80GB HBM3` is an `H100`."""
        text = f" {_spaced(device)} "
        return any(f" {_spaced(name)} " in text for name in self.names)


class Generation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One generation of TPUs, as tpus.toml describes it."""

    prefix: str
    counts: Literal["cores", "chips"]
    single_host: int
    memory_gb: int
    tflops: float
    machine_type: str
    topologies: dict[str, str]
    devices: int = 1
    runtime_version: str = ""
    image: str = ""
    boot_disk: str = ""
    gke: str = ""

    def chips(self, number: int) -> int:
        """Chips of the type with this number."""
        return number // 2 if self.counts == "cores" else number

    def hosts(self, number: int) -> int:
        """Machines of the type with this number."""
        chips = self.chips(number)
        return 1 if chips <= self.single_host else chips // 4

    def per_host(self, number: int) -> int:
        """Devices of each machine of the type with this number."""
        return self.chips(number) // self.hosts(number) * self.devices

    def machine(self, number: int) -> str:
        """The type of machine of Compute Engine that the type with this number is made of."""
        return self.machine_type.replace("-4t", f"-{self.chips(number) // self.hosts(number)}t")

    def has(self, number: int) -> bool:
        """Whether there is a type with this number. Of types in three dimensions only the smaller ones are listed."""
        return str(number) in self.topologies or (self.counts == "cores" and number % 8 == 0)


class Instance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a machine of a cloud has."""

    accelerator: str
    count: int


class Cloud(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The machines of one cloud by their type."""

    source: str
    types: dict[str, Instance]


class Tpus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The generations of TPUs by their name."""

    source: str
    generations: dict[str, Generation]

    def named(self, name: str) -> tuple[Generation, int] | None:
        """The generation and the number of a type such as `v6e-16`; None where there is no such type."""
        prefix, _, number = name.rpartition("-")
        found = next((item for item in self.generations.values() if item.prefix == prefix), None)
        return (found, int(number)) if found is not None and number.isdigit() and found.has(int(number)) else None

    def names(self) -> list[str]:
        """Every type that is listed."""
        return [f"{item.prefix}-{number}" for item in self.generations.values() for number in item.topologies]


@cache
def accelerators() -> dict[str, Accelerator]:
    """Every accelerator by the word of `hardware.model`."""
    return msgspec.convert(read("accelerators"), dict[str, Accelerator])


@cache
def clouds() -> dict[str, Cloud]:
    """The machines of each cloud."""
    return msgspec.convert(read("instances"), dict[str, Cloud])


@cache
def tpus() -> Tpus:
    """The generations of TPUs."""
    return msgspec.convert(read("tpus"), Tpus)


def read(name: str) -> dict[str, Any]:
    """A data file of this folder."""
    return tomllib.loads((Path(__file__).parent / f"{name}.toml").read_text(encoding="utf-8"))


def _spaced(text: str) -> str:
    return text.replace("-", " ")
