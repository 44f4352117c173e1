"""Saves and loads checkpoints of one training, as its policy says."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from ... import __version__
from ...spec.findings import Finding, FindingsError, finding
from ...spec.resolved import ResolvedSpec
from .. import saving
from ..places import caller_place
from . import folders, tensors, verify
from . import manifest as manifests
from .background import Background
from .contents import Contents, Training, give, packed, take
from .hooks import Hooks
from .manifest import JobOf, MadeBy, Manifest, StoredFile, digest_of
from .policy import Policy
from .writer import COMMON, Draft, Everyone, Parcel, abandon, begin, fill, finish, own_file, together

About = Callable[[dict[str, StoredFile]], Manifest]
_THREADS = 4  # that write; while one waits for the disk another has something to write
_SHARD = 10 * 10**9  # bytes of a file of a whole model


class Keeper:
    """The checkpoints of one training. All processes call its methods, in the same order."""

    def __init__(self, training: Training, policy: Policy, spec: ResolvedSpec | None) -> None:
        self.training = training
        self.policy = policy
        self.hooks = Hooks()
        self.iteration = policy.iteration
        self._spec = spec
        self._background = Background(training.world)
        self._everyone: Everyone = training.collectives.objects
        self._lock: int | None = None
        self.asked = False
        self.after_load: Callable[[], None] | None = None
        self.flush: Callable[[], None] = lambda: None

    # --- what is saved beside what was prepared -----------------------------------------------------------------------

    def register(self, objects: Sequence[Any], named: Mapping[str, Any]) -> None:
        """Saves and loads these too.

        Raises:
            FindingsError: J504, an object has no state; J507, a name is taken.
        """
        known = self.training.objects
        numbered = {f"object_{len(known) + place}": item for place, item in enumerate(objects)}
        for name, item in {**numbered, **named}.items():
            if not callable(getattr(item, "state_dict", None)) or not callable(getattr(item, "load_state_dict", None)):
                cause = f"`register_for_checkpointing` was given a `{type(item).__qualname__}`, which has no state"
                step = "give it objects with the methods `state_dict` and `load_state_dict`"
                raise FindingsError((finding("J504", cause, place=caller_place(), next_step=step),))
            if name in known and known[name] is not item:
                cause = f"register_for_checkpointing: another object is registered as `{name}`"
                raise FindingsError((finding("J507", cause, place=caller_place(name), next_step="use another name"),))
        known |= {**numbered, **named}

    # --- saving -------------------------------------------------------------------------------------------------------

    def save(self, output_dir: str | Path | None, *, whole: bool = False, safe: bool = True) -> Path | None:
        """Saves the state now; the checkpoint's folder, or None where it failed and the training is to go on.

        Raises:
            FindingsError: J524 it, or the one before it, could not be written; J525 one is still being written; J528
                something could not be read back.
        """
        try:
            self.settle(saving=True)
            draft = self._begin(output_dir)
            try:
                self._write(draft, whole=whole, safe=safe)
            except BaseException:
                self._abandon(draft)
                raise
        except FindingsError as error:
            self._failed(error.findings)
            return None
        self.iteration += 1
        return draft.target

    def settle(self, *, saving: bool = False) -> None:
        """Waits for the checkpoint that is being written, and says what became of it.

        Raises:
            FindingsError: J524 it could not be written; J525, with `saving`, it is still being written and the job
                does not wait.
        """
        refuses = saving and self.policy.asynchronous and self.policy.when_busy == "refuse"
        if refuses and any(self._everyone(self._background.busy)):
            raise FindingsError((_busy(),))
        self._background.wait()
        self.raise_failed()

    def close(self) -> None:
        """Saves what is still due, and waits until it is written.

        Raises:
            FindingsError: J524, a checkpoint could not be written.
        """
        self.flush()
        self.settle()

    def raise_failed(self) -> None:
        """Says once what kept the last asynchronous checkpoint from being written.

        Raises:
            FindingsError: J524, where the job ends at it.
        """
        findings = () if self._background.busy else self._background.failed()
        if findings:
            self._failed(findings)

    def _failed(self, findings: tuple[Finding, ...]) -> None:
        if self.policy.on_error == "stop" or any(item.code != "J524" for item in findings):
            raise FindingsError(findings)
        for item in findings if self.training.world.is_main else ():
            print(f"{item.render()}\n  the training goes on", file=sys.stderr)

    def _begin(self, output_dir: str | Path | None) -> Draft:
        target = self._target(output_dir)
        made = together(self._everyone, lambda: self._make(target), target)
        return next(item for item in made if item is not None)

    def _target(self, output_dir: str | Path | None) -> Path:
        """The folder of the next checkpoint; where none is named, a number may be added to it."""
        if self.policy.numbered:
            return self.policy.folder / f"checkpoint_{self.iteration}"
        if output_dir is not None:
            return Path.cwd() / Path(output_dir).expanduser()
        return self.policy.folder / folders.by_step(self.training.progress.step)

    def _make(self, target: Path) -> Draft | None:
        if not self.training.world.is_main:
            return None
        if target.parent == self.policy.folder:
            target = target.with_name(folders.free_name(target.parent, target.name))
        draft = begin(target)
        self._lock = folders.lock(draft.folder)
        return draft

    def _write(self, draft: Draft, *, whole: bool, safe: bool) -> None:
        from .division import plan, share  # noqa: PLC0415 - torch's parts for it take long to import

        training, world = self.training, self.training.world
        kept = self.hooks.saving(training.prepared.models, self._whole, draft.folder)
        contents = take(training, kept)
        if whole:
            self._write_models(draft.folder, safe=safe)
        planner, mine = plan(contents.tensors)
        pieces = share(planner, self._everyone(mine), world.rank)
        blobs = {own_file(world.rank): packed(contents.own)}
        if world.is_main:
            blobs[COMMON] = packed({**contents.common, "iteration": self.iteration})
        about = partial(self._manifest, contents, folders.next_sequence(draft.target.parent) if world.is_main else 0)
        if self.policy.asynchronous:
            self._background.connect()
            pieces = self._background.staging.copy(pieces)
        parcel = Parcel(rank=world.rank, pieces=pieces, blobs=blobs, threads=_THREADS if world.local_size == 1 else 1)
        if self.policy.asynchronous:
            self._background.start(partial(self._store_later, draft, parcel, about))
        else:
            self._store(draft, parcel, about, self._everyone)

    def _store_later(self, draft: Draft, parcel: Parcel, about: About) -> None:
        try:
            self._store(draft, parcel, about, self._background.everyone)
        except BaseException:
            self._abandon(draft)
            raise

    def _store(self, draft: Draft, parcel: Parcel, about: About, everyone: Everyone) -> None:
        files: dict[str, StoredFile] = {}
        for written in together(everyone, partial(fill, draft, parcel), draft.target):
            files |= written
        together(everyone, lambda: self._finish(draft, files, about), draft.target)

    def _finish(self, draft: Draft, files: dict[str, StoredFile], about: About) -> None:
        if not self.training.world.is_main:
            return
        finish(draft, files, about)
        self._unlock()
        if self.policy.keep is not None and draft.target.parent == self.policy.folder:
            gone = folders.prune(self.policy.folder, self.policy.keep, draft.target)
            self._background.remove(gone)

    def _abandon(self, draft: Draft) -> None:
        if self.training.world.is_main:
            abandon(draft)
            self._unlock()

    def _unlock(self) -> None:
        descriptor, self._lock = self._lock, None
        if descriptor is not None:
            os.close(descriptor)

    def _whole(self, model: nn.Module) -> dict[str, Any]:
        return saving.plain(self.training.strategy.whole_state(model))

    def _write_models(self, folder: Path, *, safe: bool) -> None:
        """Each model whole, the first one where `load_checkpoint_in_model` looks for it."""
        for number, model in enumerate(self.training.prepared.models):
            state = self.training.strategy.whole_state(model)
            if self.training.world.is_main:
                saving.save_state(state, folder / f"model_{number}" if number else folder, _SHARD, safe=safe)

    def _manifest(self, contents: Contents, sequence: int, files: dict[str, StoredFile]) -> Manifest:
        training, prepared = self.training, self.training.prepared
        strategy, mesh = training.strategy.layout()
        values = None if self._spec is None else self._spec.values()
        return Manifest(
            sequence=sequence,
            step=contents.steps,
            epoch=contents.epochs,
            samples=contents.samples,
            time=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            made_by=MadeBy(processes=training.world.size, strategy=strategy, mesh=mesh),
            job=None if values is None else JobOf(digest=digest_of(values), values=values),
            versions=_versions(),
            models=contents.models,
            optimizers=tuple(type(item.optimizer).__name__ for item in prepared.optimizers),
            schedulers=tuple(type(item.scheduler).__name__ for item in prepared.schedulers),
            loaders=len(prepared.loaders),
            objects=tuple(training.objects),
            per_rank=contents.per_rank,
            files=files,
        )

    # --- loading ------------------------------------------------------------------------------------------------------

    def load(self, input_dir: str | Path | None) -> Path | None:
        """Gives the training the state of a checkpoint, the newest complete one if none is named; its folder.

        Where the job resumes by itself and there is none yet, it is None and nothing is changed.

        Raises:
            FindingsError: J520 there is no complete checkpoint, J521 it is damaged, J522 it is not one of this
                training, J523 a newer jobc wrote it.
        """
        from .division import TensorFiles  # noqa: PLC0415 - torch's parts for it take long to import

        self.asked = True
        self.settle()
        found = together(self._everyone, lambda: self._found(input_dir), self.policy.folder)[0]
        if found is None:
            return None
        maps: dict[Path, tensors.Mapped] = {}
        manifest = together(self._everyone, lambda: self._checked(found, maps), found)[self.training.world.rank]
        base = found / manifest.base
        left_out = self.hooks.loading(self.training.prepared.models, base)
        files = TensorFiles(found, manifest.files, maps)
        common, own = _read(base / COMMON), self._own(base, manifest)
        try:
            give(self.training, manifest, files, common, own, left_out)
        except FindingsError as error:
            raise _with_offer(error, found) from error
        self.iteration = common["iteration"] + 1
        if self.after_load is not None:
            self.after_load()
        self._hint(manifest)
        self.training.collectives.barrier()
        return found

    def resume(self) -> Path | None:
        """Loads the newest complete checkpoint if the job resumes by itself and the script did not load one."""
        if self.asked or self.policy.resume != "auto":
            return None
        return self.load(None)

    def check_asked(self) -> None:
        """Called when training begins.

        Raises:
            FindingsError: J526, the job resumes by itself and the script began anew without having asked.
        """
        if self.policy.resume == "auto" and not self.asked:
            cause = "the job says `training.checkpoint.resume: auto`, and the script trains without having resumed"
            step = (
                "write `for epoch in accelerator.epochs(total):`, or call `accelerator.load_state()` after `prepare`;\n"
                "or say `resume: never`"
            )
            raise FindingsError((finding("J526", cause, place=caller_place(), next_step=step),))

    def _found(self, input_dir: str | Path | None) -> Path | None:
        if not self.training.world.is_main:
            return None
        if input_dir is not None:
            return Path.cwd() / Path(input_dir).expanduser()
        doubtful = folders.doubtful(self.policy.folder)
        if doubtful is not None and doubtful.why is not None:  # to go on from an older one unasked would lose work
            raise _with_offer(FindingsError((doubtful.why,)), doubtful.path)
        newest = folders.newest(self.policy.folder)
        if newest is None and self.policy.resume != "auto":
            raise none_there(self.policy.folder)
        return newest

    def _checked(self, found: Path, maps: dict[Path, tensors.Mapped]) -> Manifest:
        """The manifest, once this process's part of the files was compared with it."""
        world = self.training.world
        try:
            manifest = manifests.read(found)
        except FindingsError as error:
            raise _with_offer(error, found) from error
        names = sorted(manifest.files)[world.rank :: world.size]
        faults = verify.faults(found, manifest, names, partial(tensors.describe, maps=maps))
        if faults:
            step = folders.offer(found)
            raise FindingsError(
                tuple(item for fault in faults for item in manifests.damaged(fault.path, fault.why, step).findings)
            )
        return manifest

    def _own(self, base: Path, manifest: Manifest) -> Any:
        """What this process alone had, if it is one of those that saved."""
        world = self.training.world
        return _read(base / own_file(world.rank)) if manifest.made_by.processes == world.size else None

    def _hint(self, manifest: Manifest) -> None:
        world, there = self.training.world, manifest.made_by.processes
        if manifest.per_rank and there != world.size and world.is_main:
            names = " and ".join(manifest.per_rank)
            cause = (
                f"the checkpoint was saved by {there} processes, and these are {world.size}: {names} of each process"
            )
            step = "gradients are their mean; random states are seeded anew, and buffers are those of the first process"
            print(finding("J527", f"{cause} do not carry over", next_step=step).render(), file=sys.stderr)


def none_there(folder: Path) -> FindingsError:
    """J520: there is nothing to load."""
    cause = f"there is no complete checkpoint in `{folder}`"
    step = "name a checkpoint's folder, or set `training.checkpoint.resume: auto` to begin anew where there is none"
    return FindingsError((finding("J520", cause, place=caller_place(), next_step=step),))


def _busy() -> Finding:
    cause = "a checkpoint is to be saved while the one before it is still being written"
    step = "save less often, or set `training.checkpoint.when_busy: wait`"
    return finding("J525", cause, place=caller_place(), next_step=step)


def _with_offer(error: FindingsError, folder: Path) -> FindingsError:
    """The same findings with the next older complete checkpoint offered."""
    step = folders.offer(folder)
    said = [f"{item.next_step}\n{step}" if item.next_step else step for item in error.findings]
    return FindingsError(
        tuple(msgspec.structs.replace(item, next_step=text) for item, text in zip(error.findings, said, strict=True))
    )


def _read(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _versions() -> dict[str, str]:
    found = {"jobc": __version__, "python": platform.python_version(), "torch": str(torch.__version__)}
    numpy = sys.modules.get("numpy")
    return found if numpy is None else {**found, "numpy": numpy.__version__}
