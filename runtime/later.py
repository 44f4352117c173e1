"""Names that Accelerate teaches for what jobc does not have yet: they can be imported, and refuse to be used."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, NoReturn

from ..spec.findings import FindingsError, finding
from .places import caller_place


class Later:
    """What is not there yet. Such a class can be named, asked for with isinstance and inherited from, and not made."""

    _cause = ""
    _step = ""

    def __new__(cls, *_: Any, **__: Any) -> NoReturn:
        _refuse(cls._cause, cls._step)


class LoggerType(StrEnum):
    """Accelerate's words for trackers. `log_with` refuses them until there are trackers."""

    ALL = "all"
    AIM = "aim"
    CLEARML = "clearml"
    COMETML = "comet_ml"
    DVCLIVE = "dvclive"
    MLFLOW = "mlflow"
    SWANLAB = "swanlab"
    TENSORBOARD = "tensorboard"
    TRACKIO = "trackio"
    WANDB = "wandb"


class LaterView:
    """What an Accelerator does not do yet, under the names that scripts call it by."""

    @property
    def trackers(self) -> list[Any]:
        """The trackers of the training: none, for there are none yet."""
        return []

    def init_trackers(
        self,
        project_name: str,
        config: dict[str, Any] | None = None,
        init_kwargs: dict[str, Any] | None = None,
    ) -> NoReturn:
        """Not there yet: trackers. A call is a finding (J530). Meanwhile: write it on the main process."""
        del project_name, config, init_kwargs
        _refuse("`init_trackers`: jobc does not have trackers yet", _WATCH)

    def get_tracker(self, name: str, unwrap: bool = False) -> NoReturn:  # noqa: FBT001, FBT002 - the signature that scripts have
        """Not there yet: trackers. A call is a finding (J530). Meanwhile: use the tracker's own library."""
        del name, unwrap
        step = "use the tracker's own library on the main process, within `if accelerator.is_main_process:`"
        _refuse("`get_tracker`: jobc does not have trackers yet", step)

    def log(
        self, values: dict[str, Any], step: int | None = None, log_kwargs: dict[str, Any] | None = None
    ) -> NoReturn:
        """Not there yet: trackers. A call is a finding (J530). Meanwhile: write it on the main process."""
        del values, step, log_kwargs
        _refuse("`log`: jobc does not have trackers yet", _WATCH)

    def profile(self, profile_handler: Any = None) -> NoReturn:
        """Not there yet: profiles. A call is a finding (J530). Meanwhile: use `torch.profiler.profile`."""
        del profile_handler
        _refuse("`profile`: jobc does not have profiles yet", _TORCH_PROFILER)


def _refuse(cause: str, step: str) -> NoReturn:
    raise FindingsError((finding("J530", cause, place=caller_place(), next_step=step),))


def _kind(name: str, what: str, step: str) -> type[Later]:
    words = {"_cause": f"`{name}`: jobc does not have {what} yet", "_step": step}
    text = f"Not there yet: {what}. Making one is a finding (J530). Meanwhile: {step}."
    return type(name, (Later,), {**words, "__doc__": text, "__module__": __name__})


def _function(name: str, what: str, step: str) -> Callable[..., NoReturn]:
    def refused(*_: Any, **__: Any) -> NoReturn:
        _refuse(f"`{name}`: jobc does not have {what} yet", step)

    refused.__name__ = refused.__qualname__ = name
    refused.__doc__ = f"Not there yet: {what}. A call is a finding (J530). Meanwhile: {step}."
    return refused


_SHARD = "use `paradigm=fsdp`, which shards parameters, gradients and optimizer state as ZeRO 3 does"
_WHOLE = "use `paradigm=fsdp` where the model does not fit on one device"
_DUMMY = "make the optimizer and the scheduler with torch and give them to `prepare`"
_HALF = "use `mixed_precision='bf16'`"
_WATCH = "write what you measure on the main process, within `if accelerator.is_main_process:`"
_TORCH_PROFILER = "use `torch.profiler.profile` around the loop"
_MEAN = "use `accelerator.reduce(loss, 'mean')`"

# DeepSpeed
DeepSpeedPlugin = _kind("DeepSpeedPlugin", "DeepSpeed", _SHARD)
DeepSpeedSequenceParallelConfig = _kind("DeepSpeedSequenceParallelConfig", "sequence parallelism", _WHOLE)
DummyOptim = _kind("DummyOptim", "DeepSpeed", _DUMMY)
DummyScheduler = _kind("DummyScheduler", "DeepSpeed", _DUMMY)

# Megatron and parallelism within a layer
GPTTrainStep = _kind("GPTTrainStep", "Megatron", _WHOLE)
MegatronLMDummyDataLoader = _kind("MegatronLMDummyDataLoader", "Megatron", _WHOLE)
MegatronLMDummyScheduler = _kind("MegatronLMDummyScheduler", "Megatron", _DUMMY)
MegatronLMPlugin = _kind("MegatronLMPlugin", "Megatron", _WHOLE)
ParallelismConfig = _kind("ParallelismConfig", "several kinds of parallelism at once", _WHOLE)
TorchContextParallelConfig = _kind("TorchContextParallelConfig", "context parallelism", _WHOLE)
TorchTensorParallelPlugin = _kind("TorchTensorParallelPlugin", "tensor parallelism", _WHOLE)
avg_losses_across_data_parallel_group = _function("avg_losses_across_data_parallel_group", "Megatron", _MEAN)
prepare_pippy = _function("prepare_pippy", "pipelines", "spread the model with `dispatch_model`")

# Number formats
AORecipeKwargs = _kind("AORecipeKwargs", "fp8", _HALF)
BnbQuantizationConfig = _kind("BnbQuantizationConfig", "quantized models", "use `dtype=torch.bfloat16` when loading")
FP8RecipeKwargs = _kind("FP8RecipeKwargs", "fp8", _HALF)
MSAMPRecipeKwargs = _kind("MSAMPRecipeKwargs", "fp8", _HALF)
TERecipeKwargs = _kind("TERecipeKwargs", "fp8", _HALF)
load_and_quantize_model = _function(
    "load_and_quantize_model", "quantized models", "use `load_checkpoint_and_dispatch` with `dtype=torch.bfloat16`"
)

# Watching, and the rest
GeneralTracker = _kind("GeneralTracker", "trackers", _WATCH)
LocalSGD = _kind("LocalSGD", "local SGD", "accumulate gradients, which needs fewer messages too")
ProfileKwargs = _kind("ProfileKwargs", "profiles", _TORCH_PROFILER)
merge_fsdp_weights = _function(
    "merge_fsdp_weights", "merging sharded files", "use `accelerator.save_model`, which writes the whole model"
)
on_main_process = _function("on_main_process", "trackers", "use `accelerator.on_main_process`")
register_tracker_class = _function("register_tracker_class", "trackers", _WATCH)
write_basic_config = _function(
    "write_basic_config", "a writer of documents", "write a `job.yaml`: `script: train.py` is one"
)
