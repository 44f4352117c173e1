"""The samples of an optimizer step against its batches, their number and the processes."""

from __future__ import annotations

from collections.abc import Iterator

from ..spec import Finding, ResolvedSpec, finding


def check(spec: ResolvedSpec) -> Iterator[Finding]:
    """Samples that do not divide, that the batches do not add up to, or that say nothing alone."""
    training, copies, path = spec.job.training, spec.job.copies, "training.global_batch"
    total, each, times = training.global_batch, training.micro_batch, training.gradient_accumulation
    if total is None:
        return
    place = spec.place(path)
    accumulates = spec.origin("training.gradient_accumulation").layer not in ("default", "derived")
    if each is None and not accumulates:
        cause = f"`{path}` is that of all processes and batches together, and nothing says how large one of them is"
        yield finding("J107", cause, place=place, next_step="add `training.micro_batch`, the batch of one process")
        return
    known = {"training.micro_batch": each} if each is not None else {}
    known |= {"training.gradient_accumulation": times} if accumulates else {}
    words = " x ".join([*(f"`{name}: {number}`" for name, number in known.items()), _processes(copies)])
    product = copies * (each or 1) * (times if accumulates else 1)
    if len(known) == 2 and product != total:
        cause = f"`{path}` is {total}, and {words} is {product}"
        step = "leave `training.gradient_accumulation` out: it follows from the other two"
        yield finding("J326", cause, place=place, next_step=step)
    elif total % product:
        below = total // product * product
        nearest = f"{below} or {below + product}" if below else f"{product}"
        cause = f"`{path}` is {total}, which is no multiple of {words} = {product}"
        yield finding("J326", cause, place=place, next_step=f"use {nearest}, or another `{next(iter(known))}`")


def _processes(number: int) -> str:
    return "1 process" if number == 1 else f"{number} processes"
