"""jobc: one document says what a training job needs; this package plans it, runs it and serves it in each process.

Nothing is imported when the package loads. Every public name is fetched on first use, so that `jobc --help` pays
for nothing and `from jobc import Accelerator` pays only for the runtime.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cli.api import load as load
    from .cli.api import plan as plan
    from .cli.api import run as run
    from .runtime.accelerator import Accelerator as Accelerator
    from .spec.findings import Finding as Finding
    from .spec.findings import FindingsError as FindingsError
    from .spec.findings import JobcError as JobcError

__version__ = "0.1.0"

_HOME = {
    "Accelerator": ".runtime.accelerator",
    "Finding": ".spec.findings",
    "FindingsError": ".spec.findings",
    "JobcError": ".spec.findings",
    "load": ".cli.api",
    "plan": ".cli.api",
    "run": ".cli.api",
}

__all__ = ["Accelerator", "Finding", "FindingsError", "JobcError", "__version__", "load", "plan", "run"]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'jobc' has no attribute {name!r}")
    value = getattr(import_module(home, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
