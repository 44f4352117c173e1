"""What DeepSpeed's launcher and its ways to start several nodes cannot honour."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...spec import Finding, Place, ResolvedSpec, finding
from ...spec.hardware import Gpu
from ...spec.paradigms import DeepSpeed
from ...spec.precisions import Fp16
from ...spec.targets import Local
from ...spec.training import Training
from ...spec.untyped import as_dict
from .deepspeed_nodes import Starter, machines, starter_of

#: Settings that a script of its own takes from DeepSpeed's configuration alone.
_IN_CONFIG = ("zero_stage", "offload_optimizer", "offload_param", "save_16bit_model", "moe_layers", "config_file")
_SHELL_SAFE = re.compile(r"[\w@%+=:,./-]+\Z", re.ASCII)


def check(spec: ResolvedSpec) -> Iterator[Finding]:
    """Everything that the launcher `deepspeed` cannot honour."""
    paradigm = spec.job.paradigm
    if not isinstance(paradigm, DeepSpeed):
        return
    yield from _config(spec, paradigm)
    starter = starter_of(spec)
    if starter is None:
        yield from _unused(spec, paradigm)
        return
    yield from _nodes(spec, paradigm, starter)
    yield from _passed_on(spec, paradigm, starter)


def _config(spec: ResolvedSpec, paradigm: DeepSpeed) -> Iterator[Finding]:
    """What the script is told of DeepSpeed's settings."""
    if paradigm.zero3_init:
        cause = "`paradigm.zero3_init` has no effect: with `launcher: deepspeed` the script makes its model itself"
        step = "make it under `deepspeed.zero.Init()` in the script"
        yield finding("J311", cause, place=spec.place("paradigm.zero3_init"), next_step=step)
    if paradigm.config_argument is None:
        for path in sorted(spec.origins):
            field = path.removeprefix("paradigm.").partition(".")[0].partition("[")[0]
            if path.startswith("paradigm.") and field in _IN_CONFIG and spec.origin(path).explicit:
                cause = f"`{path}` has no effect: the script is given no configuration of DeepSpeed"
                step = "say which of its options takes the file: `config_argument: --deepspeed_config`"
                yield finding("J311", cause, place=spec.place(path), next_step=step)
        return
    if spec.job.command is not None:
        cause = "`paradigm.config_argument` is added to the arguments of a script or module, and the job runs a command"
        yield finding("J311", cause, place=spec.place("paradigm.config_argument"), next_step="use `script` or `module`")
    if paradigm.config_file is not None:
        yield from _config_file(spec, paradigm.config_file)
        return
    if spec.job.training.micro_batch is None:
        cause = "DeepSpeed's configuration leaves the batch of a process to the script: it says `auto`"
        step = "Transformers' Trainer fills that in; for a script that gives the file to DeepSpeed as it is, set"
        yield finding(
            "J359", cause, place=spec.place("paradigm.config_argument"), next_step=f"{step} `training.micro_batch`"
        )
    yield from _without_words(spec)


def _without_words(spec: ResolvedSpec) -> Iterator[Finding]:
    """Settings of the job that DeepSpeed's configuration has no words for."""
    precision, training = spec.job.precision, spec.job.training
    if training.gradient_clipping.value is not None:
        path = "training.gradient_clipping.value"
        cause = f"DeepSpeed clips gradients by their norm, and `{path}` by their values"
        yield finding("J357", cause, place=spec.place(path), next_step="use `training.gradient_clipping.norm`")
    if not isinstance(precision, Fp16):
        return
    for field, usual in (("growth_factor", 2.0), ("backoff_factor", 0.5)):
        if getattr(precision, field) != usual:
            path = f"precision.{field}"
            cause = f"DeepSpeed doubles and halves its loss scale, and `{path}` is {getattr(precision, field):g}"
            yield finding("J357", cause, place=spec.place(path), next_step="leave it away")
    scale = precision.initial_scale
    if scale < 1 or not scale.is_integer() or int(scale) & (int(scale) - 1):
        path = "precision.initial_scale"
        cause = f"DeepSpeed's first loss scale is a power of 2, and `{path}` is {scale:g}"
        near = 2 ** max(0, int(scale).bit_length() - 1)
        yield finding("J357", cause, place=spec.place(path), next_step=f"use {near}")


def _config_file(spec: ResolvedSpec, name: str) -> Iterator[Finding]:
    """A file of DeepSpeed's that is none, or says other things than the job."""
    path, place = Path(spec.project_dir) / name, spec.place("paradigm.config_file")
    try:
        said = as_dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        cause = f"the configuration `{name}` cannot be read: {error.strerror}"
        yield finding("J302", cause, place=place, next_step=f"it is looked up from {spec.project_dir}")
        return
    except json.JSONDecodeError as error:
        where = Place(source=name, line=error.lineno, column=error.colno)
        yield finding("J356", f"`{name}` is no JSON: {error.msg}", place=where, next_step="DeepSpeed reads JSON alone")
        return
    except ValueError:
        said = None
    if said is None:
        yield finding("J356", f"`{name}` is no configuration of DeepSpeed: that is a JSON object", place=place)
        return
    for key, field, value in _twice(spec.job.training):
        found = said.get(key)
        if found not in (None, "auto", value) and spec.origin(field).explicit:
            cause = f"`{field}` is {value}, and `{name}` says `{key}: {json.dumps(found)}`"
            yield finding("J357", cause, place=spec.place(field), next_step="say it in one of the two places")


def _twice(training: Training) -> Iterator[tuple[str, str, Any]]:
    """What both DeepSpeed's file and the job can say."""
    yield "gradient_accumulation_steps", "training.gradient_accumulation", training.gradient_accumulation
    yield "gradient_clipping", "training.gradient_clipping.norm", training.gradient_clipping.norm
    yield "train_micro_batch_size_per_gpu", "training.micro_batch", training.micro_batch


def _unused(spec: ResolvedSpec, paradigm: DeepSpeed) -> Iterator[Finding]:
    """Settings of the deepspeed command's own ways to start machines, where the target does."""
    for field in ("hostfile", "include", "exclude", "multinode_args"):
        if getattr(paradigm, field):
            cause = f"`paradigm.{field}` has no effect: the target starts the processes of each node"
            step = "choose a `multinode_launcher` such as `pdsh`, or remove it"
            yield finding("J311", cause, place=spec.place(f"paradigm.{field}"), next_step=step)


def _nodes(spec: ResolvedSpec, paradigm: DeepSpeed, starter: Starter) -> Iterator[Finding]:
    """Machines and devices that the hostfile does not have, or that cannot be chosen so."""
    job, word, place = spec.job, paradigm.multinode_launcher, spec.place("paradigm.multinode_launcher")
    if not isinstance(job.target, Local):
        kind = job.target.__struct_config__.tag
        cause = f"`paradigm.multinode_launcher: {word}` reaches machines from here, and `target: {kind}` by itself"
        yield finding("J355", cause, place=place, next_step="leave `multinode_launcher` out, or use `target: local`")
    if paradigm.hostfile is None:
        cause = f"`paradigm.multinode_launcher: {word}` starts the machines of a hostfile, and there is none"
        step = "add `hostfile: hosts`, a file of lines `node1 slots=8`"
        yield finding("J107", cause, place=place, next_step=step)
        return
    if isinstance(job.hardware, Gpu) and job.hardware.ids is not None:
        cause = "`hardware.ids` and `paradigm.hostfile` both say which GPUs are used"
        step = "choose them with `paradigm.include`, such as `node1:0,3@node2:0,3`"
        yield finding("J312", cause, place=spec.place("hardware.ids"), next_step=step)
    used = machines(spec)
    if job.nodes.count != len(used):
        cause = f"`nodes` is {job.nodes.count}, and the hostfile has {len(used)} machines that are chosen"
        step = "leave `nodes` out: each machine is a node"
        yield finding("J313", cause, place=spec.place("nodes.count"), next_step=step)
    for item in used:
        if len(item.slots) < job.processes_per_node:
            cause = f"`hardware.per_node` is {job.processes_per_node}, and `{item.name}` has {len(item.slots)} devices"
            yield finding("J313", cause, place=spec.place("hardware.per_node"), next_step="write fewer")
        if not item.first_ones and not starter.numbers:
            devices = " and ".join(map(str, item.slots))
            cause = f"`{word}` cannot give out devices by their numbers, here {devices} of `{item.name}`"
            where = spec.place("paradigm.include") or spec.place("paradigm.exclude")
            yield finding("J355", cause, place=where, next_step="choose the first ones, or use `pdsh`")


def _passed_on(spec: ResolvedSpec, paradigm: DeepSpeed, starter: Starter) -> Iterator[Finding]:
    """What does not get to the machines."""
    job, word = spec.job, paradigm.multinode_launcher
    if job.setup:
        cause = f"`setup` runs on this machine, and `{word}` starts the processes on others"
        step = "put the lines into the machines' own start files, or use `target: ssh`"
        yield finding("J355", cause, place=spec.place("setup"), next_step=step)
    if starter.passes != "file":
        return
    if job.secrets:
        cause = f"`{word}` would show the value of `{job.secrets[0]}` in command lines of the machines"
        step = (
            "let the machines have it, leave it out of `secrets`, or use `target: ssh` or another `multinode_launcher`"
        )
        yield finding("J355", cause, place=spec.place("secrets"), next_step=step)
    for name, value in job.env.items():
        if "\n" in value or value != value.strip():
            cause = f"`{word}` cannot pass on `env.{name}`: it has a line break, or begins or ends with a blank"
            place = spec.place(f"env.{name}")
            yield finding("J355", cause, place=place, next_step="set it in the script, or use `target: ssh`")
    for what, text in (("the job's folder", spec.project_dir), ("`python`", job.python or "python")):
        if not _SHELL_SAFE.match(text):
            cause = f"`{word}` cannot pass on {what}: DeepSpeed does not quote `{text}`"
            yield finding("J355", cause, next_step="choose a path of letters, digits and `_@%+=:,./-`")
