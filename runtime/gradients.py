"""From a loss to gradients: accumulation windows, backward passes, clipping."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from types import TracebackType
from typing import Any

from torch import Tensor, nn

from ..spec.findings import Finding, FindingsError, finding
from .batches import check_batch
from .live import LiveBatches
from .optimizer import PreparedOptimizer
from .places import caller_place
from .precision import LossScale
from .prepare import Prepared
from .progress import Progress
from .settings import contradiction
from .strategies.base import Strategy
from .tokens import Tokens, missing, weighed

_NOTHING = nullcontext()


class Gradients:
    """The gradients of one Accelerator's models."""

    def __init__(
        self,
        strategy: Strategy,
        progress: Progress,
        scale: LossScale | None,
        prepared: Prepared,
        live: LiveBatches,
        *,
        sync_each_batch: bool = False,
    ) -> None:
        self._strategy = strategy
        self._progress = progress
        self._scale = scale
        self._prepared = prepared
        self._live = live
        self._sync_each_batch = sync_each_batch
        self._single_batches = progress.steps == 1
        self._tokens: Tokens | None = None
        self._tokens_before: dict[str, Any] | None = None
        # What is to be asked before the training begins.
        self.begins: Callable[[], None] | None = None

    @property
    def waiting(self) -> bool:
        """Whether there may be gradients that wait for more batches of their window.

        Nobody tells when a window of a script that counts batches itself is complete.
        """
        return not self._progress.sync or (self._progress.steps > 1 and not self._progress.batches)

    def state_dict(self) -> dict[str, Any]:
        """What has to be known of the window so far, beside its gradients and its progress."""
        return {"tokens": self._tokens_before if self._tokens is None else self._tokens.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on within a window."""
        self._tokens_before = state["tokens"]
        if self._tokens is not None and self._tokens_before is not None:
            self._tokens.load_state_dict(self._tokens_before)

    def begin_anew(self) -> None:
        """Forgets what is known of the training so far: the next backward pass is the first one of another."""
        self._single_batches = self._progress.steps == 1
        self._tokens = self._tokens_before = None
        self.__dict__.pop("backward", None)  # what the first one had put in its own place

    def set_steps(self, steps: int) -> None:
        """Makes windows that begin from now on be of so many batches."""
        self._progress.set_steps(steps)
        self._single_batches = steps == 1 and not self._progress.batches
        self._tokens_before = self.state_dict()["tokens"]
        self.__dict__.pop("backward", None)

    def accumulate(self, models: tuple[nn.Module, ...]) -> AbstractContextManager[object]:
        """One micro-step. With windows of one batch there is nothing to do in it."""
        if self._single_batches:
            return _NOTHING
        return MicroStep(self, self._progress, models or tuple(self._prepared.models))

    def backward(self, loss: Tensor, **options: Any) -> None:
        """The first backward pass: looks at what was prepared and puts what this job needs in its own place.

        Raises:
            FindingsError: J509, models and optimizers do not belong together; J503, tokens contradict the job; J531,
                batches are not of the size that the job says.
        """
        if self.begins is not None:
            self.begins()
        prepared = self._prepared
        if prepared.parts.settings.micro_batch is not None:
            check_batch(prepared.parts.settings.micro_batch, self._live.innermost, prepared.parts.spec)
        findings = tuple(self._strategy.strays(prepared.models, [item.optimizer for item in prepared.optimizers]))
        if self._progress.steps > 1 and any(not item.waits for item in prepared.optimizers):
            findings += (_changed_late(self._progress.steps),)
        if findings:
            raise FindingsError(findings)
        self.backward = self._chosen(by_tokens="tokens" in options)
        self.backward(loss, **options)

    def _chosen(self, *, by_tokens: bool) -> Callable[..., None]:
        parts = self._prepared.parts
        settings, world = parts.settings, parts.world
        if by_tokens and settings.loss_explicit and settings.loss != "mean_token" and parts.spec is not None:
            raise FindingsError((contradiction("tokens", "tokens=", "training.loss", settings.loss, parts.spec),))
        if by_tokens or settings.loss == "mean_token":
            self._tokens = Tokens(self._progress, parts.collectives, world)
            if self._tokens_before is not None:
                self._tokens.load_state_dict(self._tokens_before)
            return self._backward_by_tokens
        if not self._single_batches:
            return self._backward_in_window
        if self._scale is None and (world.size == 1 or settings.loss == "mean_batch"):
            return self._strategy.backward  # nothing to weigh, nothing to scale
        return self._backward_alone

    def _backward_alone(self, loss: Tensor, **options: Any) -> None:
        """Windows are single batches, which weigh the same in all processes unless their sizes differ."""
        position = self._live.innermost
        if position is not None and position.rows != position.mean and self._progress.weighs:
            loss = weighed(loss, position.rows / position.mean)
        self._scaled_backward(loss, options)

    def _backward_in_window(self, loss: Tensor, **options: Any) -> None:
        progress = self._progress
        progress.divided = True
        if not progress.batches:
            progress.outside += 1
        if progress.divisor != 1:
            loss = loss / progress.divisor
        self._scaled_backward(loss, options)

    def _backward_by_tokens(self, loss: Tensor, *, tokens: int | Tensor | None = None, **options: Any) -> None:
        if tokens is None or self._tokens is None:
            raise missing()
        weight, factor = self._tokens.weigh(tokens)
        if factor != 1:
            self._multiply(factor)
        self._progress.divided = True
        self._scaled_backward(weighed(loss, weight), options)

    def _scaled_backward(self, loss: Tensor, options: dict[str, Any]) -> None:
        if self._scale is not None:
            loss = self._scale.scaled(loss)
        self._strategy.backward(loss, **options)

    def clip_norm(self, parameters: Iterable[Tensor] | Tensor, max_norm: float, norm_type: float) -> Tensor:
        chosen = _listed(parameters)
        if not self._progress.sync:
            # The window is open: what is there is a part of the gradients, whose norm may be looked at only.
            return self._strategy.clip_norm(chosen, float("inf"), norm_type)
        self._unscale(chosen)
        return self._strategy.clip_norm(chosen, max_norm, norm_type)

    def clip_value(self, parameters: Iterable[Tensor] | Tensor, clip_value: float) -> None:
        chosen = _listed(parameters)
        if self._progress.sync:
            self._unscale(chosen)
            self._strategy.clip_value(chosen, clip_value)

    def begin(self, models: tuple[nn.Module, ...]) -> AbstractContextManager[object] | None:
        """Begins a micro-step; returns the context that keeps gradients local, where they are to be kept so."""
        factor = self._progress.advance(self._live.innermost)
        if factor != 1 and self._tokens is None:
            self._multiply(factor)
        if self._progress.sync or self._sync_each_batch:
            return None
        if len(models) == 1:
            return self._strategy.no_sync(models[0])
        quiet = ExitStack()
        for model in models:
            quiet.enter_context(self._strategy.no_sync(model))
        return quiet

    def _multiply(self, factor: float) -> None:
        # Before the last backward pass of the window, so that what is not yet averaged over the processes is right too.
        self._strategy.scale_gradients(self._prepared.models, factor)

    def _unscale(self, parameters: list[Tensor]) -> None:
        if self._scale is None:
            return
        chosen = {id(parameter) for parameter in parameters}
        for optimizer in self._prepared.optimizers:
            if _owns_any(optimizer, chosen):
                self._scale.unscale(optimizer.optimizer)


class MicroStep:
    """The context of one batch of an accumulation window."""

    __slots__ = ("_gradients", "_models", "_progress", "_quiet")

    def __init__(self, gradients: Gradients, progress: Progress, models: tuple[nn.Module, ...]) -> None:
        self._gradients = gradients
        self._progress = progress
        self._models = models
        self._quiet: AbstractContextManager[object] | None = None

    def __enter__(self) -> None:
        self._quiet = self._gradients.begin(self._models)
        if self._quiet is not None:
            self._quiet.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.leave()
        if self._quiet is not None:
            self._quiet.__exit__(kind, error, traceback)


def _changed_late(steps: int) -> Finding:
    cause = f"gradient_accumulation_steps: it was set to `{steps}` after an optimizer was prepared to step each time"
    step = "set it before `prepare`, or call `accelerator.free_memory()` and prepare anew"
    return finding("J507", cause, place=caller_place(), next_step=step)


def _listed(parameters: Iterable[Tensor] | Tensor) -> list[Tensor]:
    return [parameters] if isinstance(parameters, Tensor) else list(parameters)


def _owns_any(optimizer: PreparedOptimizer, chosen: set[int]) -> bool:
    return any(id(parameter) in chosen for group in optimizer.param_groups for parameter in group["params"])
