"""Checks of which samples each process reads in a world of two."""

import torch
from common import Accelerator, Numbers, Stream, job, loader, refuses
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, WeightedRandomSampler


def ids(ready):
    return [batch["id"].tolist() for batch in ready]


def of_all(accelerator, batches):
    return accelerator.gather([batches])


def check_processes_take_turns_in_batches():
    accelerator = Accelerator()
    ready = accelerator.prepare(loader(8, 2))
    assert of_all(accelerator, ids(ready)) == [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]
    assert len(ready) == 2


def check_fill_comes_from_the_start():
    accelerator = Accelerator()
    ready = accelerator.prepare(loader(9, 4))
    assert of_all(accelerator, ids(ready)) == [[[0, 1, 2, 3], [8, 0, 1, 2]], [[4, 5, 6, 7], [3, 4, 5, 6]]]
    assert len(ready) == 2
    assert of_all(accelerator, ids(accelerator.prepare(loader(1, 2)))) == [[[0, 0]], [[0, 0]]]


def check_drop_last_drops_the_incomplete_round():
    accelerator = Accelerator()
    ready = accelerator.prepare(loader(7, 2, drop_last=True))
    assert of_all(accelerator, ids(ready)) == [[[0, 1]], [[2, 3]]]
    assert len(ready) == 1


def check_split_batches_cut_each_batch():
    accelerator = Accelerator(split_batches=True)
    ready = accelerator.prepare(loader(6, 4))
    assert of_all(accelerator, ids(ready)) == [[[0, 1], [4, 5]], [[2, 3], [0, 1]]]
    with refuses("J504", "3", "2 equal parts"):
        accelerator.prepare(loader(6, 3))


def check_order_is_a_function_of_seed_and_epoch():
    with job(training={"seed": 3}):
        accelerator = Accelerator()
    torch.manual_seed(accelerator.process_index)  # what processes draw themselves does not matter
    one, other = accelerator.prepare(loader(12, 3, shuffle=True), loader(12, 3, shuffle=True))
    first, second = of_all(accelerator, ids(one)), of_all(accelerator, ids(one))
    assert first != second
    flat = sorted(number for batches in first for batch in batches for number in batch)
    assert flat == list(range(12))
    other.set_epoch(1)
    assert of_all(accelerator, ids(other)) == second
    other.set_epoch(0)
    assert of_all(accelerator, ids(other)) == first


def check_order_without_a_seed_is_agreed_on():
    torch.manual_seed(100 + Accelerator().process_index)
    accelerator = Accelerator()
    sampler = WeightedRandomSampler([1.0] * 8, 8, replacement=False)
    for ready in accelerator.prepare(loader(8, 2, shuffle=True), loader(8, 2, sampler=sampler)):
        parts = of_all(accelerator, ids(ready))
        assert sorted(number for batches in parts for batch in batches for number in batch) == list(range(8))


def check_workers_read_the_same():
    accelerator = Accelerator()
    ready = accelerator.prepare(loader(9, 2, num_workers=1, persistent_workers=True))
    for _ in range(2):
        seen = []
        for batch in ready:
            seen += accelerator.gather_for_metrics(batch["id"]).tolist()
        assert seen == list(range(9))


def check_the_face_is_that_of_the_loader():
    plain = loader(9, 2, shuffle=True)
    ready = Accelerator().prepare(plain)
    assert isinstance(ready, DataLoader)
    for name in ("dataset", "batch_sampler", "sampler", "batch_size", "drop_last", "num_workers", "collate_fn"):
        assert getattr(ready, name) is getattr(plain, name)


class Uneven(IterableDataset):
    """A stream whose length depends on who reads it."""

    def __init__(self, count):
        self.count = count

    def __iter__(self):
        return (torch.tensor([float(number)]) for number in range(self.count))


def check_streams_that_end_at_different_steps_stop_together():
    accelerator = Accelerator()
    rank = accelerator.process_index
    for lengths in ((4, 12), (12, 4), (0, 8), (8, 0), (0, 0)):
        ready = accelerator.prepare(DataLoader(Uneven(lengths[rank]), batch_size=2))
        steps = accelerator.gather([sum(1 for _ in ready)])
        assert steps[0] == steps[1] == max(lengths) // 4, (lengths, steps)
        ready = accelerator.prepare(DataLoader(Uneven(lengths[rank]), batch_size=2, drop_last=True))
        steps = accelerator.gather([sum(1 for _ in ready)])
        assert steps[0] == steps[1] == min(lengths) // 4, (lengths, steps)


def check_a_stream_may_have_a_length():
    class Sized(Stream):
        def __len__(self):
            return self.count

    ready = Accelerator().prepare(DataLoader(Sized(10), batch_size=2))
    assert len(ready) == len(list(ready)) == 3


def check_a_sampler_that_deals_out_itself_is_refused():
    sampler = DistributedSampler(Numbers(8), num_replicas=2, rank=0)
    with refuses("J504", "DistributedSampler"):
        Accelerator().prepare(loader(8, 2, sampler=sampler))
