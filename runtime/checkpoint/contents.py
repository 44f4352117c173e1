"""What a checkpoint holds: taken from the parts of a training, and given back to them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..collectives import Collectives
from ..gradients import Gradients
from ..live import LiveBatches
from ..precision import LossScale
from ..prepare import Prepared
from ..progress import Progress
from ..saving import plain
from ..strategies.base import Strategy
from ..world import World
from . import random_states
from .apart import large_names, put_together, take_apart
from .canonical import NamedModel, alike, load_optimizer, optimizer_state, other
from .manifest import Manifest, ModelOf

if TYPE_CHECKING:
    from .division import TensorFiles

RANDOM = "random states"
BUFFERS = "buffers"
GRADIENTS = "gradients of the open accumulation window"


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """The parts of a training whose state is saved. `objects` are registered ones by name."""

    world: World
    collectives: Collectives
    strategy: Strategy
    prepared: Prepared
    progress: Progress
    live: LiveBatches
    gradients: Gradients
    scale: LossScale | None
    objects: dict[str, Any] = field(default_factory=dict[str, Any])

    def models(self) -> list[NamedModel]:
        """The prepared models by name."""
        return [NamedModel(model, number, self.strategy) for number, model in enumerate(self.prepared.models)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """The state of a training. `tensors` are the live ones; `common` is the same in all processes, `own` is not.

    `steps` are those of the optimizer, `epochs` those that are done.
    """

    tensors: dict[str, Tensor]
    common: dict[str, Any]
    own: dict[str, Any]
    steps: int
    epochs: int
    samples: int
    models: tuple[ModelOf, ...]
    per_rank: tuple[str, ...]


def take(training: Training, left_out: Collection[int] = ()) -> Contents:
    """The state of a training now, without the models of the numbers `left_out`. All processes call it.

    Raises:
        FindingsError: J528, something could not be read back.
    """
    models, main = training.models(), training.world.is_main
    kept = [model for number, model in enumerate(models) if number not in left_out]
    tensors: dict[str, Tensor] = {}
    for model in kept:
        buffers = model.buffers()
        # Other processes may have other values in them; those of the first one count.
        tensors |= {model.prefix + name: item for name, item in model.tensors.items() if main or name not in buffers}
    names = _names(models)
    optimizers = [
        optimizer_state(item.optimizer, names, f"optimizers.{number}", tensors)
        for number, item in enumerate(training.prepared.optimizers)
    ]
    random, buffers = _per_rank(training, kept)
    gradients = _take_gradients(training, tensors)
    common = {
        "progress": training.progress.state_dict(),
        "gradients": training.gradients.state_dict(),
        "loaders": [loader.state_dict() for loader in training.prepared.loaders],
        "schedulers": [item.scheduler.state_dict() for item in training.prepared.schedulers],
        "scale": None if training.scale is None else training.scale.state_dict(),
        "extra": {model.prefix: model.extra for model in kept},
        "random": random[0],
        "learned": [training.strategy.learned(model) for model in training.prepared.models],
    }
    common = take_apart(common, "the state of the training", None) | {
        "optimizers": optimizers,
        "objects": {name: _object(training, name, item, tensors) for name, item in training.objects.items()},
    }
    said = {RANDOM: random[1], BUFFERS: buffers, GRADIENTS: gradients and training.strategy.own_gradients}
    return Contents(
        tensors=tensors,
        common=common,
        own=take_apart({"random": random[1], "buffers": buffers}, "the state of the process", None),
        steps=training.progress.step,
        epochs=training.progress.epoch,
        samples=training.progress.samples,
        models=tuple(
            ModelOf(kind=model.about.kind, aliases=model.aliases, stored=number not in left_out)
            for number, model in enumerate(models)
        ),
        per_rank=tuple(name for name, there in said.items() if any(training.collectives.objects(bool(there)))),
    )


def give(
    training: Training, manifest: Manifest, files: TensorFiles, common: Any, own: Any, left_out: Collection[int] = ()
) -> None:
    """Gives a training the state of a checkpoint. `own` is None where the process is none of those that saved.

    Raises:
        FindingsError: J522, the checkpoint is not one of this training.
    """
    models = training.models()
    check(training, manifest, left_out)
    for number, model in enumerate(models):
        if number not in left_out:
            model.load(files, manifest.models[number], common["extra"][model.prefix])
    names = _names(models)
    for number, item in enumerate(training.prepared.optimizers):
        load_optimizer(item.optimizer, names, common["optimizers"][number], files, number)
    for name, item in training.objects.items():
        _give_object(training, name, item, common["objects"][name], files)
    rest = _whole({name: common[name] for name in _REST})
    _give_rest(training, rest)
    for model, learned in zip(training.prepared.models, rest["learned"], strict=False):
        training.strategy.relearn(model, learned)
    _give_gradients(training, manifest, files)
    mine = None if own is None or manifest.made_by.processes != training.world.size else _whole(own)
    for model in models if mine is not None else ():
        model.put_buffers(mine["buffers"] if mine else {})
    _give_random(training, manifest, rest["random"], mine)


def _give_rest(training: Training, rest: dict[str, Any]) -> None:
    for item, state in zip(training.prepared.schedulers, rest["schedulers"], strict=False):
        item.scheduler.load_state_dict(state)
    if training.scale is not None and rest["scale"] is not None:
        training.scale.load_state_dict(rest["scale"])
    training.progress.load_state_dict(rest["progress"])
    training.gradients.load_state_dict(rest["gradients"])
    for loader, state in zip(training.prepared.loaders, rest["loaders"], strict=False):
        loader.load_state_dict(state)


def _whole(value: Any) -> Any:
    """Plain data that has no large tensors, put together."""
    return put_together(value, {}.__getitem__)


_REST = ("schedulers", "scale", "progress", "gradients", "loaders", "random", "learned")


def check(training: Training, manifest: Manifest, left_out: Collection[int]) -> None:
    """Whether a checkpoint holds what is prepared here. Kinds of which nothing is prepared may stay in it.

    Raises:
        FindingsError: J522, it does not.
    """
    prepared = training.prepared
    counted = (
        ("models", len(prepared.models), len(manifest.models)),
        ("optimizers", len(prepared.optimizers), len(manifest.optimizers)),
        ("schedulers", len(prepared.schedulers), len(manifest.schedulers)),
        ("data loaders", len(prepared.loaders), manifest.loaders),
    )
    if not training.objects and not any(here for _, here, _ in counted):
        raise other("nothing is prepared here that could be given the state; call `load_state` after `prepare`")
    for what, here, there in counted:
        if here and here != there:
            raise other(f"the checkpoint has {there} {what}, and {here} are prepared here")
    for number, model in enumerate(manifest.models[: len(prepared.models)]):
        if not model.stored and number not in left_out:
            cause = f"model {number} ({model.kind}) was left to a hook when the checkpoint was saved"
            raise other(f"{cause}, and no hook takes it out of the list of models now")
    missing = [name for name in training.objects if name not in manifest.objects]
    more = [name for name in manifest.objects if name not in training.objects] if prepared.optimizers else []
    if missing or more:
        said = [f"`{name}` is registered here and not in it" for name in missing]
        said += [f"`{name}` is in it and not registered here" for name in more]
        raise other(f"the checkpoint has other registered objects: {'; '.join(said)}")


def packed(value: Any) -> bytes:
    """Plain data as torch.save writes it."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _names(models: list[NamedModel]) -> dict[int, str]:
    """The names of all parameters, after the model that each is first in, by their identity."""
    found: dict[int, str] = {}
    for number, model in enumerate(models):
        for key, name in model.parameters.items():
            found.setdefault(key, f"{number}.{name}")
    return found


def _object(training: Training, name: str, item: Any, tensors: dict[str, Tensor]) -> Any:
    large: dict[str, Tensor] = {}
    found = take_apart(item.state_dict(), f"objects.{name}", large)
    tensors |= {key: value for key, value in large.items() if training.world.is_main or hasattr(value, "device_mesh")}
    return found


def _give_object(training: Training, name: str, item: Any, stored: Any, files: TensorFiles) -> None:
    large: dict[str, Tensor] = {}
    if training.world.size > 1:  # its tensors may be cut here
        take_apart(item.state_dict(), f"objects.{name}", large)
    targets = {key: alike(files, key, large.get(key)) for key in large_names(stored)}
    files.fill(targets)
    item.load_state_dict(put_together(stored, targets.__getitem__))


def _per_rank(training: Training, models: list[NamedModel]) -> tuple[tuple[dict[str, Any], dict[str, Any]], Any]:
    """Random states that are the same everywhere and those that are not, and buffers that differ in some process."""
    states = random_states.states(training.world.device)
    buffers = {model.prefix + name: item for model in models for name, item in model.buffers().items()}
    if training.world.size == 1:
        return (states, {}), {}
    mine = {name: _fingerprint(item) for name, item in {**states, **buffers}.items()}
    everywhere = training.collectives.objects(mine)
    differ = {name for name in mine if any(found.get(name) != mine[name] for found in everywhere)}
    # A generator that only some processes have is none that is the same everywhere.
    same = {name: item for name, item in states.items() if name not in differ}
    apart = {name: item for name, item in states.items() if name in differ}
    return (same, apart), {name: item for name, item in buffers.items() if name in differ}


def _fingerprint(value: Any) -> str:
    return hashlib.sha256(packed(take_apart(value, "", None))).hexdigest()


def _give_random(training: Training, manifest: Manifest, same: dict[str, Any], own: Any) -> None:
    world = training.world
    random_states.put(same, world.device)
    if RANDOM not in manifest.per_rank:
        return
    if own is not None:
        random_states.put(own["random"], world.device)
        return
    names = {"python", "numpy", "torch", "cuda"} - set(same)
    random_states.seed_anew(names, torch.initial_seed(), manifest.step, world.rank, world.device)


def _take_gradients(training: Training, tensors: dict[str, Tensor]) -> bool:
    if not training.collectives.any(training.gradients.waiting):
        return False
    owner = str(training.world.rank) if training.strategy.own_gradients else "mean"
    found = {
        f"gradients.{owner}.{number}.{name}": item
        for number, model in enumerate(training.prepared.models)
        for name, item in plain(training.strategy.gradients(model)).items()
    }
    tensors.update(found)
    return bool(found)


def _give_gradients(training: Training, manifest: Manifest, files: TensorFiles) -> None:
    """An open window's gradients: a process's own where it is one of those that saved, else the mean over them."""
    strategy, world = training.strategy, training.world
    owners = sorted({name.split(".", 2)[1] for name in files.names() if name.startswith("gradients.")})
    if not training.prepared.optimizers:
        return
    alone = strategy.own_gradients and manifest.made_by.processes == world.size and "mean" not in owners
    chosen = [str(world.rank)] if alone else owners
    # A process that had no gradient of a parameter counts as one whose gradient was 0.
    count = 1 if alone or "mean" in owners else manifest.made_by.processes
    for number, model in enumerate(training.prepared.models):
        found: dict[str, Tensor] = {}
        for name, parameter in strategy.unwrap(model).named_parameters():
            (called,) = plain({name: None})
            for key in (f"gradients.{owner}.{number}.{called}" for owner in chosen):
                if key in files:
                    part = alike(files, key, parameter)
                    files.fill({key: part})
                    found[name] = part if name not in found else found[name] + part
        strategy.put_gradients(model, {name: item / count if count > 1 else item for name, item in found.items()})
