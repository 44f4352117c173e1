"""Parameters, gradients and optimizer state cut in one piece for each process, with torch's fully_shard."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import chain
from typing import Any
from weakref import WeakSet, ref

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from ...spec.findings import Finding, FindingsError, finding
from ...spec.model import Fsdp
from ..blocks import of_classes, of_names, of_size, repeated
from ..places import caller_place
from ..world import World
from .base import Strategy
from .cutting import cut_alike
from .shared import strays
from .single import Single

#: What `paradigm.wrap` says in one word.
_WRAPS: dict[str, Callable[[nn.Module, int], list[nn.Module]]] = {
    "auto": lambda model, _least: repeated(model),
    "none": lambda _model, _least: [],
    "size": of_size,
}


@dataclass(frozen=True, slots=True)
class FullyShard(Single):
    """The strategy `fsdp` above one process.

    A model is cut in place: it stays the user's own module, with the names that it had, and its parameters become
    `DTensor`s. Optimizers that were made from the former parameters are given the new ones when they are prepared.
    While an accumulation window is open gradients stay whole in their process, so that a norm asked for then is 0.
    `replaced` has the parameters of models before and after, by the identity of the former, and `cut` those that models
    have now, by their own; while a model is at work its parameters are others, whole ones. Neither keeps any alive.

    As in torch, the model itself keeps what is left to it from the forward to the backward pass, which would gather it
    at once again. `lasting` are the modules that may be whole where no backward pass came: they are cut before steps.
    """

    options: Fsdp
    mesh: DeviceMesh
    policy: MixedPrecisionPolicy
    offloading: OffloadPolicy
    is_main: bool
    replaced: dict[int, tuple[ref[nn.Parameter], ref[nn.Parameter]]] = field(default_factory=dict, repr=False)
    cut: dict[int, ref[nn.Parameter]] = field(default_factory=dict, repr=False)
    lasting: WeakSet[nn.Module] = field(default_factory=WeakSet[nn.Module], repr=False)
    watched: WeakSet[Optimizer] = field(default_factory=WeakSet[Optimizer], repr=False)

    def place(self, model: nn.Module) -> nn.Module:
        return model  # each piece goes to the device as it is cut

    def wrap(self, model: nn.Module) -> nn.Module:
        if isinstance(model, FSDPModule):
            return model
        before = dict(model.named_parameters(remove_duplicate=False))
        left = self._left_out(model)
        for module in self._units(model, left):
            self._share(module)
            frees = self.options.reshard_after_forward
            reshard = None if frees and module is model else frees
            fully_shard(
                module,
                mesh=self.mesh,
                reshard_after_forward=reshard,
                mp_policy=self.policy,
                offload_policy=self.offloading,
                ignored_params=left,
            )
            if not reshard:
                self.lasting.add(module)
        self._note_replaced(before, dict(model.named_parameters(remove_duplicate=False)))
        if self.options.reshard_after_forward:
            model.register_forward_hook(_free_unless_training)
        model.register_load_state_dict_pre_hook(_put_back)
        for module in model.modules():
            if any(isinstance(parameter, DTensor) for parameter in module.parameters(recurse=False)):
                module.register_load_state_dict_pre_hook(_cut)
        return model

    def adopt(self, optimizer: Optimizer) -> None:
        if self.options.offload and any(group.get("capturable") for group in optimizer.param_groups):
            raise FindingsError((_only_on_gpus(optimizer),))
        for group in optimizer.param_groups:
            group["params"] = [self._now(parameter) for parameter in group["params"]]
        for former in [parameter for parameter in optimizer.state if self._now(parameter) is not parameter]:
            now = self._now(former)
            optimizer.state[now] = {name: _alike(value, now) for name, value in optimizer.state.pop(former).items()}
        if optimizer not in self.watched and hasattr(optimizer, "_optimizer_step_pre_hooks"):  # some only claim to be
            self.watched.add(optimizer)
            optimizer.register_step_pre_hook(self._free)

    def strays(self, models: Sequence[nn.Module], optimizers: Sequence[Optimizer]) -> Iterator[Finding]:
        yield from strays(models, optimizers, {key for key, item in self.cut.items() if item() is not None})
        former = {key for key, (before, _) in self.replaced.items() if before() is not None}
        for item in gc.get_objects() if former else ():
            if issubclass(type(item), Optimizer) and not any(item is known for known in optimizers):
                groups = vars(item).get("param_groups", ())
                if any(id(parameter) in former for group in groups for parameter in group["params"]):
                    yield _left_behind(item)

    def no_sync(self, model: nn.Module) -> AbstractContextManager[object]:
        return _local(model) if isinstance(model, FSDPModule) else nullcontext()

    def scale_gradients(self, models: Sequence[nn.Module], factor: float) -> None:
        reduced = [parameter.grad for parameter in (item() for item in self.cut.values()) if parameter is not None]
        for gradient in chain(reduced, *(self._waiting(model) for model in models)):
            if gradient is not None:
                gradient.mul_(factor)

    def clip_norm(self, parameters: Iterable[Tensor], max_norm: float, norm_type: float) -> Tensor:
        self._free()
        chosen = [self._own(item) for item in parameters]
        norm = nn.utils.get_total_norm([item.grad for item in chosen if item.grad is not None], norm_type)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        nn.utils.clip_grads_with_norm_(chosen, max_norm, norm)
        return norm

    def clip_value(self, parameters: Iterable[Tensor], clip_value: float) -> None:
        self._free()
        for parameter in parameters:
            gradient = self._own(parameter).grad
            if gradient is not None:
                self._here(gradient).clamp_(-clip_value, clip_value)

    def whole_state(self, model: nn.Module) -> dict[str, Any]:
        state: dict[str, Any] = {}
        gathered: dict[int, Any] = {}
        # Names of one parameter share it also when it is whole. One at a time is gathered, everywhere in this order.
        for name, value in model.state_dict(keep_vars=True).items():
            if id(value) not in gathered:
                gathered[id(value)] = self._whole(value)
            if self.is_main:
                state[name] = gathered[id(value)]
        return state

    def layout(self) -> tuple[str, dict[str, int]]:
        names = self.mesh.mesh_dim_names or ("shard",)
        return "fsdp", {name.removeprefix("dp_"): self.mesh.size(place) for place, name in enumerate(names)}

    @property
    def own_gradients(self) -> bool:
        return False

    def gradients(self, model: nn.Module) -> dict[str, Tensor]:
        """Gradients of an open window are reduced for it, in copies: the window goes on with its own."""
        _put_back(model)
        waiting = {id(part.sharded_param): list(_of(part)) for part in self._parts(model)}
        named = dict(model.named_parameters())
        there = torch.tensor([int(bool(waiting.get(id(item)))) for item in named.values()], device=self.device)
        dist.all_reduce(there, op=dist.ReduceOp.MAX)
        found: dict[str, Tensor] = {}
        for (name, parameter), whole in zip(named.items(), there.tolist(), strict=True):
            total = None if parameter.grad is None else parameter.grad.detach().clone()
            if whole:
                mean = torch.zeros(parameter.shape, dtype=torch.float32, device=self.device)
                for gradient in waiting.get(id(parameter), ()):
                    mean += gradient
                dist.all_reduce(mean)
                cut = _alike((mean / self.mesh.size()).to(parameter.dtype), parameter)
                total = cut if total is None else total + cut
            if total is not None:
                found[name] = total
        return found

    def put_gradients(self, model: nn.Module, gradients: Mapping[str, Tensor]) -> None:
        _put_back(model)
        for part in self._parts(model):
            part.unsharded_accumulated_grad = None
            if getattr(part, "_unsharded_param", None) is not None:
                part._unsharded_param.grad = None  # noqa: SLF001 - torch has no public way to it
        for name, parameter in model.named_parameters():
            parameter.grad = gradients.get(name)  # what the window still adds is reduced and added to it

    def join(self, models: Sequence[nn.Module]) -> AbstractContextManager[object]:  # noqa: ARG002 - the protocol's
        cause = (
            "under paradigm `fsdp` no process can train on while another has no data: each holds a part of the model"
        )
        step = (
            "leave `even_batches` on, which gives all processes as many batches; a stream ends everywhere together;\n"
            "or train with `paradigm=ddp`"
        )
        raise FindingsError((finding("J510", cause, next_step=step),))

    def _free(self, *_: Any) -> None:
        """Gives models their own parameters back where a forward pass had no backward pass."""
        for module in self.lasting:
            module.reshard()  # pyright: ignore[reportCallIssue]

    def _own(self, parameter: Any) -> Any:
        """The parameter that the model has between passes, for one that it had in the middle of one."""
        if id(parameter) in self.cut:
            return parameter
        parts = chain.from_iterable(self._parts(module) for module in self.lasting)
        whole = (part for part in parts if getattr(part, "_unsharded_param", None) is parameter)
        return next((part.sharded_param for part in whole), parameter)

    def _units(self, model: nn.Module, left: set[nn.Parameter]) -> list[nn.Module]:
        """The modules that are gathered one at a time, inner ones first, and the model for what is left."""
        wrap = self.options.wrap
        chosen = _WRAPS[wrap](model, self.options.min_parameters) if isinstance(wrap, str) else of_classes(model, wrap)
        parted = (module for module in chosen if not left or any(item not in left for item in module.parameters()))
        return [*(module for module in parted if module is not model), model]

    def _left_out(self, model: nn.Module) -> set[nn.Parameter]:
        """The parameters of modules that `paradigm.ignored` names."""
        named = of_names(model, self.options.ignored)
        left = {item for module in named.values() for item in module.parameters()}
        trained = [name for name, module in named.items() if any(item.requires_grad for item in module.parameters())]
        if trained:
            raise FindingsError((_trained(trained),))
        return left

    def _share(self, module: nn.Module) -> None:
        """Gives all processes what the first one has, as DDP does, on the device."""
        for tensor in chain(module.parameters(), module.buffers()):
            if not isinstance(tensor, DTensor):
                tensor.data = tensor.data.to(self.device)
                dist.broadcast(tensor.data, 0)

    def _note_replaced(self, before: dict[str, nn.Parameter], after: dict[str, nn.Parameter]) -> None:
        for key in [key for key, (former, _) in self.replaced.items() if former() is None]:
            del self.replaced[key]
        for name, former in before.items():
            known = self.replaced.get(id(former))
            if known is not None and known[1]() is not after[name]:
                raise FindingsError((_torn(name),))
            self.cut[id(after[name])] = ref(after[name])
            if after[name] is not former:
                self.replaced[id(former)] = (ref(former), ref(after[name]))

    def _now(self, parameter: Any) -> Any:
        """The parameter that took the place of this one; itself where none did."""
        former, now = self.replaced.get(id(parameter), (None, None))
        return now() if former is not None and former() is parameter and now is not None else parameter

    def _waiting(self, model: nn.Module) -> Iterator[Tensor]:
        """Gradients of an open window: whole, in their process, where fully_shard keeps them."""
        return chain.from_iterable(_of(part) for part in self._parts(model))

    def _parts(self, model: nn.Module) -> Iterator[Any]:
        """What fully_shard knows of each parameter."""
        for module in model.modules():
            if isinstance(module, FSDPModule):
                state = module._get_fsdp_state()  # noqa: SLF001 - torch has no public way to them
                groups = getattr(state, "_fsdp_param_groups", None) or [state._fsdp_param_group]  # noqa: SLF001
                yield from chain.from_iterable(group.fsdp_params for group in groups if group is not None)

    def _here(self, tensor: Any) -> Tensor:
        return tensor.to_local() if isinstance(tensor, DTensor) else tensor

    def _whole(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        whole: Any = value.detach()
        whole = whole.full_tensor() if isinstance(whole, DTensor) else whole
        return whole.cpu() if self.is_main else None


def build(kind: Fsdp, world: World, half: torch.dtype | None, reduce: torch.dtype | None) -> Strategy:
    """The strategy `fsdp`; alone it is the strategy of one process."""
    if world.size == 1:
        return Single(world.device)
    policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=None if half is None else reduce or torch.float32)
    return FullyShard(world.device, kind, _mesh(kind, world), policy, _offloading(kind, world), world.is_main)


def _mesh(kind: Fsdp, world: World) -> DeviceMesh:
    """All processes in a row, or in as many rows as there are groups that hold the whole model."""
    if kind.sharding == "full":
        return init_device_mesh(world.device.type, (world.size,))
    groups = kind.replicate or world.size // world.local_size
    if groups < 2 or world.size % groups or world.size == groups:
        cause = f"`sharding: hybrid` with {groups} group{'s' if groups > 1 else ''} does not fit {world.size} processes"
        step = "let `paradigm.replicate` divide them into groups of equal size, at least two of at least two"
        raise FindingsError((finding("J327", cause, next_step=step),))
    return init_device_mesh(
        world.device.type, (groups, world.size // groups), mesh_dim_names=("dp_replicate", "dp_shard")
    )


def _offloading(kind: Fsdp, world: World) -> OffloadPolicy:
    """Where pieces are kept. In memory processes talk over gloo, on GPUs beside nccl."""
    if not kind.offload:
        return OffloadPolicy()
    if world.backend is not None and "gloo" not in world.backend:
        cause = f"`paradigm.offload` keeps parameters in memory, and processes that talk over {world.backend} cannot"
        step = "leave the process group and its backend to jobc, which opens one for both"
        raise FindingsError((finding("J510", f"{cause} exchange them there", next_step=step),))
    return CPUOffloadPolicy(pin_memory=world.device.type != "cpu")


def _of(part: Any) -> Iterator[Tensor]:
    """Gradients of one parameter that wait for the end of their window."""
    whole = getattr(part, "_unsharded_param", None)
    for gradient in (part.unsharded_accumulated_grad, None if whole is None else whole.grad):
        if gradient is not None:
            yield gradient


@contextmanager
def _local(model: Any) -> Iterator[None]:
    model.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        model.set_requires_gradient_sync(True)


def _put_back(model: nn.Module, *_: Any) -> None:
    """Gives a model its own parameters back, which it may not have after a forward pass."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def _free_unless_training(module: Any, _given: Any, _found: Any) -> None:
    if not (module.training and torch.is_grad_enabled()):
        module.reshard()


def _cut(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Cuts the whole tensors of a state that is being loaded as the module's own are; every process has all of them."""
    for name, parameter in module.named_parameters(recurse=False):
        value = state.get(prefix + name)
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            state[prefix + name] = _alike(value, parameter)


def _alike(value: Any, parameter: Any) -> Any:
    """A tensor of the parameter's shape cut as the parameter is; anything else as it is."""
    cut = isinstance(parameter, DTensor) and isinstance(value, Tensor) and not isinstance(value, DTensor)
    if not cut or value.shape != parameter.shape:
        return value
    return cut_alike(value.detach(), parameter)


def _only_on_gpus(optimizer: Optimizer) -> Finding:
    cause = (
        f"a {type(optimizer).__name__} with `capturable=True` steps on GPUs only, and `paradigm.offload` keeps"
        " parameters in memory"
    )
    return finding("J532", cause, place=caller_place(), next_step="leave `capturable` away, or `paradigm.offload`")


def _trained(names: Sequence[str]) -> Finding:
    shown = ", ".join(f"`{name}`" for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    cause = f"`paradigm.ignored` leaves out {shown}, whose parameters are trained; their gradients would stay in their"
    step = "freeze them before `prepare` with `module.requires_grad_(False)`, or let the job not name them"
    return finding("J533", f"{cause} process", place=caller_place(), next_step=step)


def _left_behind(optimizer: Optimizer) -> Finding:
    cause = (
        f"a {type(optimizer).__name__} holds parameters that the model had before it was cut in pieces, so that its"
        " steps would train nothing"
    )
    step = "give the optimizer to `prepare` too, or make it from the parameters of the prepared model"
    return finding("J509", cause, next_step=step)


def _torn(name: str) -> Finding:
    cause = f"`{name}` shares its tensor with a parameter of another part of the model that `paradigm.wrap` cuts apart"
    step = "let `paradigm.wrap` name classes that hold both or neither of them, or use `wrap: none`"
    return finding("J508", cause, next_step=step)
