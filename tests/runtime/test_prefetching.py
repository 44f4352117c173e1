"""Batches sent ahead: what is on its way, and what the code is told about the batch in its hand."""

import pytest
import torch
from jobc import Accelerator, skip_first_batches
from jobc.runtime.prefetching import SideStream, ahead
from torch.utils.data import DataLoader, IterableDataset


class Carrier:
    """Takes batches nowhere, and keeps the order in which it did."""

    def __init__(self):
        self.log = []

    def send(self, batch):
        self.log.append(f"send {batch}")
        return batch

    def receive(self, sent):
        self.log.append(f"receive {sent}")
        return sent


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "send a, receive a, had a, send b, receive b, had b, send c, receive c, had c"),
        (1, "send a, send b, receive a, had a, send c, receive b, had b, receive c, had c"),
        (9, "send a, send b, send c, receive a, had a, receive b, had b, receive c, had c"),
    ],
)
def test_batches_are_sent_before_they_are_asked_for(count, expected):
    """As many are on their way as was asked for, and all of them arrive in order."""
    carrier = Carrier()
    for batch, share in ahead(iter([("a", 1), ("b", 2), ("c", 3)]), carrier, count):
        assert share == "_abc".index(batch)
        carrier.log.append(f"had {batch}")
    assert ", ".join(carrier.log) == expected


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(7))


@pytest.mark.parametrize("dataset", [range(7), Stream()], ids=["map", "stream"])
def test_position_is_that_of_the_batch_in_hand(dataset):
    """Metrics, the end of the data and what is left belong to the batch handed out, not to the one sent ahead."""
    accelerator = Accelerator()
    ready = accelerator.prepare(DataLoader(dataset, batch_size=2))
    ready._deliver = lambda batches: ahead(batches, Carrier(), 2)
    found = []
    for batch in ready:
        position = accelerator._live.innermost
        assert accelerator.gather_for_metrics(batch).tolist() == batch.tolist()
        found.append((position.size, position.last, position.upto))
        if isinstance(dataset, range):
            assert position.remaining == 5 - len(found)
    assert found == [(2, False, 2), (2, False, 4), (2, False, 6), (1, True, 7)]
    assert [batch.tolist() for batch in skip_first_batches(ready, 2)] == [[4, 5], [6]]


def test_nothing_is_sent_where_batches_are_made():
    """On the CPU a loader's batches are where they are needed; no call is added."""
    accelerator = Accelerator(cpu=True)
    assert accelerator.prepare(DataLoader(range(4)))._deliver is None


class Wrapped:
    """An object that moves itself and that nothing can be seen in."""

    def __init__(self, value):
        self.value = value

    def to(self, device):
        return Wrapped(self.value.to(device))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="copies on a side stream need a GPU")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("pinned", [False, True])
def test_batches_arrive_whole_on_the_gpu(workers, pinned):
    """Each batch is complete when it is used, while the GPU is busy and memory is used again and again."""
    accelerator = Accelerator()
    rows = torch.arange(64.0)[:, None].expand(-1, 200_000)

    def collate(indices):
        part = rows[indices].contiguous()
        return {"plain": part, "wrapped": Wrapped(part + 1)}

    loader = DataLoader(range(64), batch_size=4, num_workers=workers, pin_memory=pinned, collate_fn=collate)
    ready = accelerator.prepare(loader)
    assert ready._deliver is not None
    sums = []
    for batch in ready:
        torch.cuda._sleep(2_000_000)
        sums.append((batch["plain"].double().sum() + batch["wrapped"].value.double().sum()) / 200_000)
    expected = [2 * sum(range(start, start + 4)) + 4 for start in range(0, 64, 4)]
    assert torch.stack(sums).tolist() == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="pinned memory needs a GPU")
def test_what_is_not_pinned_is_staged():
    """With pinned loaders a batch that came in pageable memory goes through pinned memory too."""
    mover = SideStream(torch.device("cuda", 0), pins=True)
    assert mover.receive(mover.send([torch.ones(3)]))[0].tolist() == [1, 1, 1]
