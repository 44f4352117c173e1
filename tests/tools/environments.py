"""Python environments that `make engines` makes in .engines, one for an engine whose packages are no part of .venv."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ENGINES = Path(__file__).parents[2] / ".engines"
#: No account, and nothing that asks who calls or counts the calls.
AWS = {
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_EC2_METADATA_DISABLED": "true",
    "SAGEMAKER_USER_CONFIG_OVERRIDE": str(Path(__file__).with_name("sagemaker.yaml")),
}
#: What commands of an environment need beside it.
VARIABLES = {
    # An operator that DeepSpeed compiles is found again by the ninja that compiled it, so PATH is part of it.
    "deepspeed": {"DS_ACCELERATOR": "cpu", "TORCH_EXTENSIONS_DIR": str(ENGINES / "deepspeed" / "extensions")},
    "sagemaker3": AWS | {"SAGEMAKER_VALIDATE_ROLE": "false"},
    "sagemaker2": AWS,
    "xla": {"PJRT_DEVICE": "CPU"},
}


@dataclass(frozen=True)
class Environment:
    """Its folder of programs, and the variables for what runs there."""

    name: str

    @property
    def installed(self) -> bool:
        """Whether `make engines` has made it."""
        return (ENGINES / self.name / ".installed").exists()

    @property
    def bin(self) -> Path:
        """The folder that holds python and the programs of its packages."""
        return ENGINES / self.name / "bin"

    @property
    def python(self) -> str:
        """The interpreter that has the engine's packages."""
        return str(self.bin / "python")

    def variables(self, path: str) -> dict[str, str]:
        """Added to the environment of a command, whose PATH is `path`."""
        return {"PATH": f"{self.bin}:{path}", **VARIABLES.get(self.name, {})}
