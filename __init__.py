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
    from .runtime.big.empty import init_empty_weights as init_empty_weights
    from .runtime.big.empty import init_on_device as init_on_device
    from .runtime.big.fitting import infer_auto_device_map as infer_auto_device_map
    from .runtime.big.spreading import cpu_offload as cpu_offload
    from .runtime.big.spreading import disk_offload as disk_offload
    from .runtime.big.spreading import dispatch_model as dispatch_model
    from .runtime.big.spreading import load_checkpoint_and_dispatch as load_checkpoint_and_dispatch
    from .runtime.kinds import DistributedType as DistributedType
    from .runtime.later import AORecipeKwargs as AORecipeKwargs
    from .runtime.later import BnbQuantizationConfig as BnbQuantizationConfig
    from .runtime.later import DeepSpeedPlugin as DeepSpeedPlugin
    from .runtime.later import DeepSpeedSequenceParallelConfig as DeepSpeedSequenceParallelConfig
    from .runtime.later import DummyOptim as DummyOptim
    from .runtime.later import DummyScheduler as DummyScheduler
    from .runtime.later import FP8RecipeKwargs as FP8RecipeKwargs
    from .runtime.later import GeneralTracker as GeneralTracker
    from .runtime.later import GPTTrainStep as GPTTrainStep
    from .runtime.later import LocalSGD as LocalSGD
    from .runtime.later import LoggerType as LoggerType
    from .runtime.later import MegatronLMDummyDataLoader as MegatronLMDummyDataLoader
    from .runtime.later import MegatronLMDummyScheduler as MegatronLMDummyScheduler
    from .runtime.later import MegatronLMPlugin as MegatronLMPlugin
    from .runtime.later import MSAMPRecipeKwargs as MSAMPRecipeKwargs
    from .runtime.later import ParallelismConfig as ParallelismConfig
    from .runtime.later import ProfileKwargs as ProfileKwargs
    from .runtime.later import TERecipeKwargs as TERecipeKwargs
    from .runtime.later import TorchContextParallelConfig as TorchContextParallelConfig
    from .runtime.later import TorchTensorParallelPlugin as TorchTensorParallelPlugin
    from .runtime.later import avg_losses_across_data_parallel_group as avg_losses_across_data_parallel_group
    from .runtime.later import load_and_quantize_model as load_and_quantize_model
    from .runtime.later import merge_fsdp_weights as merge_fsdp_weights
    from .runtime.later import on_main_process as on_main_process
    from .runtime.later import prepare_pippy as prepare_pippy
    from .runtime.later import register_tracker_class as register_tracker_class
    from .runtime.later import write_basic_config as write_basic_config
    from .runtime.launching import PrepareForLaunch as PrepareForLaunch
    from .runtime.launching import patch_environment as patch_environment
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
    from .runtime.state import AcceleratorState as AcceleratorState
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
    ".runtime.big.empty": (
        "init_empty_weights",
        "init_on_device",
    ),
    ".runtime.big.fitting": ("infer_auto_device_map",),
    ".runtime.kinds": ("DistributedType",),
    ".runtime.later": (
        "AORecipeKwargs",
        "BnbQuantizationConfig",
        "DeepSpeedPlugin",
        "DeepSpeedSequenceParallelConfig",
        "DummyOptim",
        "DummyScheduler",
        "FP8RecipeKwargs",
        "GPTTrainStep",
        "GeneralTracker",
        "LocalSGD",
        "LoggerType",
        "MSAMPRecipeKwargs",
        "MegatronLMDummyDataLoader",
        "MegatronLMDummyScheduler",
        "MegatronLMPlugin",
        "ParallelismConfig",
        "ProfileKwargs",
        "TERecipeKwargs",
        "TorchContextParallelConfig",
        "TorchTensorParallelPlugin",
        "avg_losses_across_data_parallel_group",
        "load_and_quantize_model",
        "merge_fsdp_weights",
        "on_main_process",
        "prepare_pippy",
        "register_tracker_class",
        "write_basic_config",
    ),
    ".runtime.launching": (
        "PrepareForLaunch",
        "patch_environment",
    ),
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
    ".runtime.big.spreading": (
        "cpu_offload",
        "disk_offload",
        "dispatch_model",
        "load_checkpoint_and_dispatch",
    ),
    ".runtime.state": (
        "AcceleratorState",
        "PartialState",
    ),
    ".spec.findings": (
        "Finding",
        "FindingsError",
        "JobcError",
    ),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "AORecipeKwargs",
    "Accelerator",
    "AcceleratorState",
    "AutocastKwargs",
    "BnbQuantizationConfig",
    "DDPCommunicationHookType",
    "DataLoaderConfiguration",
    "DeepSpeedPlugin",
    "DeepSpeedSequenceParallelConfig",
    "DistributedDataParallelKwargs",
    "DistributedType",
    "DummyOptim",
    "DummyScheduler",
    "FP8RecipeKwargs",
    "Finding",
    "FindingsError",
    "FullyShardedDataParallelPlugin",
    "GPTTrainStep",
    "GeneralTracker",
    "GradScalerKwargs",
    "GradientAccumulationPlugin",
    "InitProcessGroupKwargs",
    "JobcError",
    "LocalSGD",
    "LoggerType",
    "MSAMPRecipeKwargs",
    "MegatronLMDummyDataLoader",
    "MegatronLMDummyScheduler",
    "MegatronLMPlugin",
    "ParallelismConfig",
    "PartialState",
    "PrepareForLaunch",
    "ProfileKwargs",
    "ProjectConfiguration",
    "TERecipeKwargs",
    "TorchContextParallelConfig",
    "TorchDynamoPlugin",
    "TorchTensorParallelPlugin",
    "__version__",
    "avg_losses_across_data_parallel_group",
    "broadcast",
    "broadcast_object_list",
    "cpu_offload",
    "debug_launcher",
    "disk_offload",
    "dispatch_model",
    "extract_model_from_parallel",
    "find_executable_batch_size",
    "gather",
    "gather_object",
    "get_logger",
    "infer_auto_device_map",
    "init_empty_weights",
    "init_on_device",
    "is_cuda_available",
    "is_npu_available",
    "is_schedulefree_available",
    "is_torch_xla_available",
    "is_xpu_available",
    "load",
    "load_and_quantize_model",
    "load_checkpoint_and_dispatch",
    "load_checkpoint_in_model",
    "merge_fsdp_weights",
    "notebook_launcher",
    "on_main_process",
    "pad_across_processes",
    "patch_environment",
    "plan",
    "prepare_pippy",
    "reduce",
    "register_tracker_class",
    "release_memory",
    "run",
    "send_to_device",
    "set_seed",
    "skip_first_batches",
    "tqdm",
    "wait_for_everyone",
    "write_basic_config",
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
