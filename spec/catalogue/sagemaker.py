"""What is known of SageMaker: its machines, and Amazon's images of PyTorch."""

from __future__ import annotations

from functools import cache

import msgspec

from . import clouds, read


class Image(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The tags of one version of torch, and the regions that do not have it."""

    gpu: str
    cpu: str
    missing: tuple[str, ...] = ()


class Adapter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Machines with an Elastic Fabric Adapter, by their families, and the variables that make use of it."""

    families: tuple[str, ...]
    env: dict[str, str]


class SageMakerFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The data of sagemaker.toml."""

    source: str
    members: tuple[str, ...]
    disks: tuple[str, ...]
    accounts: dict[str, str]
    domains: dict[str, str]
    images: dict[str, Image]
    processors: dict[str, str]
    efa: tuple[Adapter, ...]

    def image(self, region: str, torch: str, device: str) -> str | None:
        """The image for a version of torch on a `gpu` or `cpu`; None where the region does not have it."""
        account, found = self.accounts.get(region), self.images.get(torch)
        if account is None or found is None or region in found.missing:
            return None
        domain = self.domains.get(region, "amazonaws.com")
        return f"{account}.dkr.ecr.{region}.{domain}/{found.gpu if device == 'gpu' else found.cpu}"

    def variables(self, instance_type: str) -> dict[str, str]:
        """The variables of a machine's network adapter."""
        family = instance_type.split(".")[1]
        for item in self.efa:
            if family in item.families:
                return item.env
        return {}


@cache
def facts() -> SageMakerFacts:
    """What is known."""
    return msgspec.convert(read("sagemaker"), SageMakerFacts)


@cache
def machines() -> dict[str, tuple[str, int]]:
    """Every type of machine, `ml.` before it, with its accelerator and how many; without one `("", 0)`."""
    found = {f"ml.{name}": (item.accelerator, item.count) for name, item in clouds()["aws"].types.items()}
    for family, sizes in facts().processors.items():
        found |= {f"ml.{family}.{size}": ("", 0) for size in sizes.split()}
    return found
