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
    from .runtime.availability import is_cuda_available as is_cuda_available
    from .runtime.availability import is_npu_available as is_npu_available
    from .runtime.availability import is_schedulefree_available as is_schedulefree_available
    from .runtime.availability import is_torch_xla_available as is_torch_xla_available
    from .runtime.availability import is_xpu_available as is_xpu_available
    from .runtime.bars import tqdm as tqdm
    from .runtime.batch_size import find_executable_batch_size as find_executable_batch_size
    from .runtime.kinds import DistributedType as DistributedType
    from .runtime.loading import load_checkpoint_in_model as load_checkpoint_in_model
    from .runtime.logs import get_logger as get_logger
    from .runtime.notebook import debug_launcher as debug_launcher
    from .runtime.notebook import notebook_launcher as notebook_launcher
    from .runtime.operations import broadcast as broadcast
    from .runtime.operations import broadcast_object_list as broadcast_object_list
    from .runtime.operations import extract_model_from_parallel as extract_model_from_parallel
    from .runtime.operations import gather as gather
    from .runtime.operations import gather_object as gather_object
    from .runtime.operations import pad_across_processes as pad_across_processes
    from .runtime.operations import reduce as reduce
    from .runtime.operations import release_memory as release_memory
    from .runtime.operations import send_to_device as send_to_device
    from .runtime.operations import wait_for_everyone as wait_for_everyone
    from .runtime.plugins import AutocastKwargs as AutocastKwargs
    from .runtime.plugins import DataLoaderConfiguration as DataLoaderConfiguration
    from .runtime.plugins import DDPCommunicationHookType as DDPCommunicationHookType
    from .runtime.plugins import DistributedDataParallelKwargs as DistributedDataParallelKwargs
    from .runtime.plugins import FullyShardedDataParallelPlugin as FullyShardedDataParallelPlugin
    from .runtime.plugins import GradientAccumulationPlugin as GradientAccumulationPlugin
    from .runtime.plugins import GradScalerKwargs as GradScalerKwargs
    from .runtime.plugins import InitProcessGroupKwargs as InitProcessGroupKwargs
    from .runtime.plugins import ProjectConfiguration as ProjectConfiguration
    from .runtime.plugins import TorchDynamoPlugin as TorchDynamoPlugin
    from .runtime.seed import set_seed as set_seed
    from .runtime.skipping import skip_first_batches as skip_first_batches
    from .runtime.state import PartialState as PartialState
    from .spec.findings import Finding as Finding
    from .spec.findings import FindingsError as FindingsError
    from .spec.findings import JobcError as JobcError

__version__ = "0.1.0"

#: Public names by the module that holds them.
_NAMES = {
    ".cli.api": (
        "load",
        "plan",
        "run",
    ),
    ".runtime.accelerator": ("Accelerator",),
    ".runtime.availability": (
        "is_cuda_available",
        "is_npu_available",
        "is_schedulefree_available",
        "is_torch_xla_available",
        "is_xpu_available",
    ),
    ".runtime.bars": ("tqdm",),
    ".runtime.batch_size": ("find_executable_batch_size",),
    ".runtime.kinds": ("DistributedType",),
    ".runtime.loading": ("load_checkpoint_in_model",),
    ".runtime.logs": ("get_logger",),
    ".runtime.notebook": (
        "debug_launcher",
        "notebook_launcher",
    ),
    ".runtime.operations": (
        "broadcast",
        "broadcast_object_list",
        "extract_model_from_parallel",
        "gather",
        "gather_object",
        "pad_across_processes",
        "reduce",
        "release_memory",
        "send_to_device",
        "wait_for_everyone",
    ),
    ".runtime.plugins": (
        "AutocastKwargs",
        "DDPCommunicationHookType",
        "DataLoaderConfiguration",
        "DistributedDataParallelKwargs",
        "FullyShardedDataParallelPlugin",
        "GradScalerKwargs",
        "GradientAccumulationPlugin",
        "InitProcessGroupKwargs",
        "ProjectConfiguration",
        "TorchDynamoPlugin",
    ),
    ".runtime.seed": ("set_seed",),
    ".runtime.skipping": ("skip_first_batches",),
    ".runtime.state": ("PartialState",),
    ".spec.findings": (
        "Finding",
        "FindingsError",
        "JobcError",
    ),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "Accelerator",
    "AutocastKwargs",
    "DDPCommunicationHookType",
    "DataLoaderConfiguration",
    "DistributedDataParallelKwargs",
    "DistributedType",
    "Finding",
    "FindingsError",
    "FullyShardedDataParallelPlugin",
    "GradScalerKwargs",
    "GradientAccumulationPlugin",
    "InitProcessGroupKwargs",
    "JobcError",
    "PartialState",
    "ProjectConfiguration",
    "TorchDynamoPlugin",
    "__version__",
    "broadcast",
    "broadcast_object_list",
    "debug_launcher",
    "extract_model_from_parallel",
    "find_executable_batch_size",
    "gather",
    "gather_object",
    "get_logger",
    "is_cuda_available",
    "is_npu_available",
    "is_schedulefree_available",
    "is_torch_xla_available",
    "is_xpu_available",
    "load",
    "load_checkpoint_in_model",
    "notebook_launcher",
    "pad_across_processes",
    "plan",
    "reduce",
    "release_memory",
    "run",
    "send_to_device",
    "set_seed",
    "skip_first_batches",
    "tqdm",
    "wait_for_everyone",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'jobc' has no attribute {name!r}")
    value = getattr(import_module(home, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
