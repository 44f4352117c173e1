"""DeepSpeed's configuration, from what a job says or from the file that it names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...spec import ResolvedSpec
from ...spec.paradigms import DeepSpeed, Offload
from ...spec.precisions import Bf16, Fp16


def content(spec: ResolvedSpec) -> str | None:
    """The text of the configuration, None where the script is given none."""
    paradigm = spec.job.paradigm
    if not isinstance(paradigm, DeepSpeed) or paradigm.config_argument is None:
        return None
    if paradigm.config_file is not None:
        try:
            return (Path(spec.project_dir) / paradigm.config_file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):  # the job is refused for it
            return ""
    return json.dumps(generated(spec, paradigm), indent=2) + "\n"


def generated(spec: ResolvedSpec, paradigm: DeepSpeed) -> dict[str, Any]:
    """The configuration in DeepSpeed's words."""
    training, precision = spec.job.training, spec.job.precision
    zero: dict[str, Any] = {"stage": paradigm.zero_stage}
    for name in ("offload_optimizer", "offload_param"):
        block: Offload = getattr(paradigm, name)
        if block.device != "none":
            path = {} if block.nvme_path is None else {"nvme_path": block.nvme_path}
            zero[name] = {"device": block.device, **path, "pin_memory": block.pin_memory}
    if paradigm.zero_stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = paradigm.save_16bit_model
    if paradigm.moe_layers:
        zero["leaf_module"] = {"classes": list(paradigm.moe_layers)}
    batch = training.micro_batch
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": "auto" if batch is None else batch,
        "gradient_accumulation_steps": training.gradient_accumulation,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,  # torch's own, which DeepSpeed otherwise refuses
    }
    if training.gradient_clipping.norm is not None:
        config["gradient_clipping"] = training.gradient_clipping.norm
    if isinstance(precision, Bf16):
        config["bf16"] = {"enabled": True}
    if isinstance(precision, Fp16):
        config["fp16"] = {
            "enabled": True,
            "loss_scale": 0,
            "initial_scale_power": int(precision.initial_scale).bit_length() - 1,
            "loss_scale_window": precision.growth_interval,
        }
    return config
