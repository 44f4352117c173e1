"""Models and optimizers under the names of the user's own modules, whatever is wrapped around these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ...spec.findings import FindingsError, finding
from ..saving import plain
from ..strategies.base import Strategy
from .apart import large_names, put_together, take_apart
from .manifest import ModelOf

if TYPE_CHECKING:
    from .division import TensorFiles


class NamedModel:
    """A prepared model by the names in it. `tensors` has each tensor once, `aliases` the other names of a tensor."""

    def __init__(self, model: nn.Module, number: int, strategy: Strategy) -> None:
        self.inner = strategy.unwrap(model)
        cls = type(self.inner)
        # fully_shard gives a module a class of its own, made of torch's and the user's.
        self.kind = cls.__bases__[-1].__name__ if hasattr(cls, "reshard") and len(cls.__bases__) > 1 else cls.__name__
        self.prefix = f"models.{number}."
        self.state = plain(self.inner.state_dict(keep_vars=True))
        self.parameters = {id(item): name for name, item in plain(dict(self.inner.named_parameters())).items()}
        self.tensors: dict[str, Tensor] = {}
        self.aliases: dict[str, str] = {}
        self.extra: dict[str, Any] = {}
        first: dict[int, str] = {}
        for name, value in self.state.items():
            if not isinstance(value, Tensor):
                self.extra[name] = value
            elif (known := first.setdefault(id(value), name)) != name:
                self.aliases[name] = known
            else:
                self.tensors[name] = value.detach()
        self._variables = {name: value for name, value in self.state.items() if name in self.tensors}

    @property
    def about(self) -> ModelOf:
        """The model as a manifest describes it."""
        return ModelOf(kind=self.kind, aliases=self.aliases)

    def buffers(self) -> dict[str, Tensor]:
        """The tensors that are no parameters."""
        return {name: self.tensors[name] for name, item in self._variables.items() if id(item) not in self.parameters}

    def put_buffers(self, buffers: dict[str, Tensor]) -> None:
        """Fills those buffers whose names, after the model's number, are here."""
        for name, value in buffers.items():
            if name.startswith(self.prefix):
                self.tensors[name.removeprefix(self.prefix)].copy_(value)

    def load(self, files: TensorFiles, saved: ModelOf, extra: dict[str, Any]) -> None:
        """Fills the model with the stored tensors, in place.

        Raises:
            FindingsError: J522, names, shapes or number formats are not those of the model.
        """
        sources = {name: self.prefix + saved.aliases.get(name, name) for name in self.tensors}
        self._check(files, saved, sources)
        targets: dict[str, Tensor] = {}
        again: list[tuple[Tensor, Tensor]] = []
        for name, source in sources.items():
            if source in targets:  # tied when it was saved, and apart now
                again.append((self.tensors[name], targets[source]))
            else:
                targets[source] = self.tensors[name]
        files.fill(targets)
        for target, value in again:
            target.copy_(value)
        # The tensors of a state may be copies, and modules may have more to do when a state is loaded.
        names = dict(zip(self.inner.state_dict(keep_vars=True), self.state, strict=True))
        values = {**self.state, **extra}
        self.inner.load_state_dict({raw: values[name] for raw, name in names.items()})

    def _check(self, files: TensorFiles, saved: ModelOf, sources: dict[str, str]) -> None:
        stored = {name.removeprefix(self.prefix) for name in files.names() if name.startswith(self.prefix)}
        missing = [name for name, source in sources.items() if source not in files]
        known = {*self.tensors, *self.aliases}
        unexpected = [name for name in sorted(stored | set(saved.aliases)) if name not in known]
        wrong = [
            f"`{name}` is {_form(files.shape(source), files.dtype(source))} there"
            f" and {_form(tuple(self.tensors[name].shape), self.tensors[name].dtype)} here"
            for name, source in sources.items()
            if source in files
            and (files.shape(source), files.dtype(source))
            != (tuple(self.tensors[name].shape), self.tensors[name].dtype)
        ]
        if missing or unexpected or wrong:
            said = [f"it has no {_some(missing)}"] * bool(missing)
            said += [f"the model has no {_some(unexpected)}"] * bool(unexpected)
            cause = f"the checkpoint is of another {saved.kind} than this {self.kind}: {'; '.join(said + wrong[:3])}"
            raise other(cause)


def optimizer_state(optimizer: Optimizer, names: dict[int, str], prefix: str, large: dict[str, Tensor]) -> Any:
    """The plain part of an optimizer's state, parameters by name; tensors go into `large`.

    A parameter of no prepared model is called after its place in the optimizer, and its values are stored with it.
    """
    packed = optimizer.state_dict()
    called = dict(_called(optimizer, packed, names))
    groups = [{**group, "params": [called[item] for item in group["params"]]} for group in packed["param_groups"]]
    loose = {f"loose.{place}": item for place, item in enumerate(_parameters(optimizer)) if id(item) not in names}
    state = {called.get(key, key): value for key, value in packed["state"].items()}
    return take_apart({"state": state, "groups": groups, "loose": loose}, prefix, large)


def load_optimizer(optimizer: Optimizer, names: dict[int, str], stored: Any, files: TensorFiles, number: int) -> None:
    """Gives an optimizer the stored state.

    Raises:
        FindingsError: J522, its groups hold other parameters than those that were saved.
    """
    packed = optimizer.state_dict()
    called = dict(_called(optimizer, packed, names))
    places = {name: place for place, name in called.items()}
    here = [[called[item] for item in group["params"]] for group in packed["param_groups"]]
    there = [group["params"] for group in stored["groups"]]
    if [sorted(group) for group in here] != [sorted(group) for group in there]:
        mine, saved = ({name for group in groups for name in group} for groups in (here, there))
        apart = sorted(mine ^ saved)
        why = (
            f"{_some(apart)} {'is' if len(apart) == 1 else 'are'} trained by only one of them"
            if apart
            else ("they divide their parameters into other groups")
        )
        raise other(f"optimizer {number} is not the one that was saved: {why}")
    parameters = {called[place]: item for place, item in zip(called, _parameters(optimizer), strict=True)}
    loose = {name: item for name, item in parameters.items() if name in stored["loose"]}
    known: dict[str, Tensor] = {}  # memory that is there already
    optimizer_state(optimizer, names, f"optimizers.{number}", known)
    targets = {name: _target(name, files, parameters, known) for name in large_names(stored)}
    files.fill(targets)
    found = put_together(stored, targets.__getitem__)
    for name, item in loose.items():
        item.detach().copy_(found["loose"][name])
    state = {places.get(name, name): _cut(value, parameters.get(name)) for name, value in found["state"].items()}
    groups = [
        {**group, "params": mine["params"]} for group, mine in zip(found["groups"], packed["param_groups"], strict=True)
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def other(cause: str) -> FindingsError:
    """J522: a checkpoint is not one of this training."""
    step = "load a checkpoint of this training; `jobc checkpoint show FOLDER` says what one holds"
    return FindingsError((finding("J522", cause, next_step=step),))


def alike(files: TensorFiles, name: str, like: Tensor | None) -> Tensor:
    """An empty tensor for a stored one, cut as `like` is where that is of the same shape, and on its device."""
    shape, kind = files.shape(name), files.dtype(name)
    if like is not None and tuple(like.shape) == shape:
        return torch.empty_like(like, dtype=kind, requires_grad=False)
    return torch.empty(shape, dtype=kind)


def _target(key: str, files: TensorFiles, parameters: dict[str, Tensor], known: dict[str, Tensor]) -> Tensor:
    """What an entry `optimizers.0.state.NAME.exp_avg` is read into: the tensor that is there, or an empty one."""
    there = known.get(key)
    if there is not None and (tuple(there.shape), there.dtype) == (files.shape(key), files.dtype(key)):
        return there
    _, _, path = key.split(".", 2)
    name = path.removeprefix("state.").removeprefix("loose.").rpartition(".")[0]
    return alike(files, key, parameters.get(name))


def _cut(values: Any, like: Any) -> Any:
    """The state of one parameter, whole tensors of its shape cut as it is; every process has all of them."""
    mesh = getattr(like, "device_mesh", None)
    if mesh is None or not isinstance(values, dict):
        return values
    from ..strategies.cutting import cut_alike  # noqa: PLC0415 - only sharded models need it

    def cut(value: Any) -> Any:
        if not isinstance(value, Tensor) or hasattr(value, "device_mesh") or value.shape != like.shape:
            return value
        return cut_alike(value, like)

    return {name: cut(value) for name, value in values.items()}


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [item for group in optimizer.param_groups for item in group["params"]]


def _called(optimizer: Optimizer, packed: dict[str, Any], names: dict[int, str]) -> Iterator[tuple[Any, str]]:
    """The names of parameters by their numbers in a packed state."""
    numbers = [number for group in packed["param_groups"] for number in group["params"]]
    for place, (number, item) in enumerate(zip(numbers, _parameters(optimizer), strict=True)):
        yield number, names.get(id(item), f"loose.{place}")


def _form(shape: Sequence[int], kind: torch.dtype) -> str:
    return f"{tuple(shape)} {str(kind).removeprefix('torch.')}"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
