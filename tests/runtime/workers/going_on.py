"""Runs over data that are stopped after every batch, and go on in other processes.

`going_on.py record FILE` writes down two epochs of every kind of data, with the state after each batch.
`going_on.py resume FILE...` goes on from each state with new objects, and writes what differs beside the file.
"""

import json
import os
import pickle
import random
import sys
import traceback
from pathlib import Path

import numpy as np
import torch
from jobc import Accelerator, DataLoaderConfiguration
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

SIZE = int(os.environ.get("WORLD_SIZE", "1"))
RANK = int(os.environ.get("RANK", "0"))


class Noisy(Dataset):
    """Numbers, each with what three generators give at the moment it is read."""

    def __init__(self, count):
        self.count = count
        self.read = []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.read.append(index)
        return index, (random.random(), float(np.random.rand()), torch.rand(1).item())


class Stream(IterableDataset):
    """Numbers; each worker has those that leave its own remainder."""

    def __init__(self, count):
        self.count = count

    def __iter__(self):
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        assert info is None or type(info.dataset) is type(self)
        for number in range(first, self.count, step):
            yield number, (random.random(), float(np.random.rand()), torch.rand(1).item())


class Remembering(IterableDataset):
    """A stream that knows by itself where it is, and reads nothing twice."""

    def __init__(self, count):
        self.count = count
        self.next = None
        self.begins = None

    def state_dict(self):
        return {"next": self.next}

    def load_state_dict(self, state):
        self.begins = state["next"]

    def __iter__(self):
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        self.next, self.begins = first if self.begins is None else self.begins, None
        while self.next < self.count:
            number = self.next
            self.next += step
            yield number, (0.0, 0.0, 0.0)


def ragged(count):
    """Batches of many sizes."""
    sizes, start = [3, 1, 2, 4], 0
    while start < count:
        size = sizes[start % len(sizes)]
        yield list(range(start, min(count, start + size)))
        start += size


#: By name: how the loader is made, and what it is dealt out with.
KINDS = {
    "map": (lambda: DataLoader(Noisy(21), batch_size=2, shuffle=True, collate_fn=list), {}),
    "map_workers": (lambda: DataLoader(Noisy(11), batch_size=2, shuffle=True, num_workers=2, collate_fn=list), {}),
    "map_staying": (
        lambda: DataLoader(
            Noisy(9), batch_size=2, shuffle=True, num_workers=1, persistent_workers=True, collate_fn=list
        ),
        {},
    ),
    "map_same_global_batch": (lambda: DataLoader(Noisy(37), batch_size=8 // SIZE, shuffle=True, collate_fn=list), {}),
    "map_drop_last": (lambda: DataLoader(Noisy(21), batch_size=2, drop_last=True, collate_fn=list), {}),
    "map_split": (
        lambda: DataLoader(Noisy(21), batch_size=8, shuffle=True, collate_fn=list),
        {"split_batches": True},
    ),
    "map_dispatched": (
        lambda: DataLoader(Noisy(21), batch_size=2, shuffle=True, collate_fn=list),
        {"dispatch_batches": True},
    ),
    "batch_sampler": (lambda: DataLoader(Noisy(25), batch_sampler=list(ragged(25)), collate_fn=list), {}),
    "items": (lambda: DataLoader(Noisy(11), batch_size=None, shuffle=True, collate_fn=lambda item: [item]), {}),
    "stream": (lambda: DataLoader(Stream(21), batch_size=2, collate_fn=list), {}),
    "stream_workers": (lambda: DataLoader(Stream(13), batch_size=2, num_workers=2, collate_fn=list), {}),
    "stream_staying": (
        lambda: DataLoader(Stream(11), batch_size=2, num_workers=1, persistent_workers=True, collate_fn=list),
        {},
    ),
    "stream_dispatched": (
        lambda: DataLoader(Stream(13), batch_size=2, num_workers=2, collate_fn=list),
        {"dispatch_batches": True},
    ),
    "remembering": (lambda: DataLoader(Remembering(21), batch_size=2, collate_fn=list), {}),
    "remembering_workers": (lambda: DataLoader(Remembering(13), batch_size=2, num_workers=2, collate_fn=list), {}),
}
#: Kinds whose noise is a function of the data's order, so that other processes draw the same.
SEEDED = ("map_workers", "map_staying", "stream_workers", "stream_staying", "stream_dispatched")


def made(kind, seed):
    make, options = KINDS[kind]
    accelerator = Accelerator(dataloader_config=DataLoaderConfiguration(data_seed=seed, **options))
    return accelerator, accelerator.prepare(make())


def generators():
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def set_generators(states):
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])


def step(accelerator, batch):
    """What all processes have in hand, real samples only, in order."""
    position = accelerator._live.innermost
    real = position.real if position.real is not None else len(batch)
    return [item for part in accelerator._collectives.objects(list(batch)[:real]) for item in part]


def record():
    """By kind: samples handed out in each epoch, and after each batch the state with what came before."""
    found = {}
    for kind in KINDS:
        random.seed(RANK)
        np.random.seed(RANK)
        torch.manual_seed(RANK)
        accelerator, loader = made(kind, 5)
        epochs, stops = [], []
        for epoch in range(2):
            epochs.append([])
            for batch in loader:
                epochs[-1] += step(accelerator, batch)
                everyone = accelerator._collectives.objects((loader.state_dict(), generators()))
                first, states = everyone[0][0], [state for state, _ in everyone]
                assert all(state == first for state in states), states
                json.dumps(first)
                stops.append((epoch, len(epochs[-1]), first, [drawn for _, drawn in everyone]))
            drawn = accelerator._collectives.objects(generators())
            stops.append((epoch + 1, 0, loader.state_dict(), drawn))
        found[kind] = epochs, stops
    return found


def resumed(kind, stop, size):
    """What is handed out after a stop, by epoch; in new objects, whose own seed is another one."""
    epoch, count, state, drawn = stop
    accelerator, loader = made(kind, 77)
    loader.load_state_dict(state)
    if size == SIZE:
        set_generators(drawn[RANK])
    # Beyond the end of the epoch they all go on alike, so that is looked at after its first and its last batch only.
    until = 2 if count < 9 or state["last"] else epoch + 1
    rest = [[item for batch in loader for item in step(accelerator, batch)] for _ in range(epoch, until)]
    if kind == "map" and rest and state["under_way"]:
        read = sum(accelerator._collectives.objects(len(loader.dataset.read)))
        assert read <= len(rest[0]) + (until - epoch - 1) * 21 + 4 * SIZE, "what was handed out before was read again"
    return rest


def differences(found, size):
    """What differs from the runs that were not stopped."""
    for kind, (epochs, stops) in found.items():
        noisy = kind in SEEDED or (size == SIZE and kind != "stream")
        # Workers have a stream each; how these are woven depends on the number of processes.
        parts = 2 if kind in ("stream_workers", "stream_dispatched", "remembering_workers") else 1
        # In as many processes as before every stop is tried; starting workers for each of them elsewhere takes minutes.
        few = size != SIZE and KINDS[kind][0]().num_workers > 0
        for stop in stops[:: 3 if few else 1]:
            epoch, count, state, _ = stop
            expected = [epochs[epoch][count:], *epochs[epoch + 1 :]] if epoch < 2 else []
            for had, wanted in zip(resumed(kind, stop, size), expected, strict=False):
                for part in range(parts):
                    ours, theirs = (
                        [item if noisy else item[0] for item in items if item[0] % parts == part]
                        for items in (had, wanted)
                    )
                    if kind == "map_drop_last" and size != SIZE:  # what is incomplete is another end then
                        ours, theirs = ours[: len(theirs)], theirs[: len(ours)]
                    if ours != theirs:
                        yield f"{kind} after {count} of epoch {epoch}, {state}:\n{ours}\n{theirs}"


def main():
    mode, *files = sys.argv[1:]
    if mode == "record":
        found = record()
        if RANK == 0:
            Path(files[0]).write_bytes(pickle.dumps((SIZE, found)))
        return
    for file in files:
        size, found = pickle.loads(Path(file).read_bytes())
        try:
            text = "\n".join(differences(found, size))
        except Exception:  # noqa: BLE001 - the test shows it
            text = traceback.format_exc()
        Path(f"{file}.to{SIZE}.rank{RANK}").write_text(text)


if __name__ == "__main__":
    main()
