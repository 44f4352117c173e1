"""Checks of values of all processes together in a world of two."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import torch
from common import Accelerator, Numbers, Stream, loader, refuses
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler


class Pair(NamedTuple):
    left: object
    right: object


@dataclass
class Output:
    scores: torch.Tensor
    note: None = None


def check_metrics_see_each_sample_once_in_order():
    for split in (False, True):
        accelerator = Accelerator(split_batches=split)
        for count in (1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17):
            for batch_size in (2, 4, 8):
                ready = accelerator.prepare(loader(count, batch_size))
                numbers, texts, sizes = [], [], set()
                for batch in ready:
                    sizes.add(len(batch["id"]))
                    whole = accelerator.gather_for_metrics(batch)
                    assert set(whole) == {"number", "text", "id"}
                    numbers += whole["number"][:, 0].tolist()
                    texts += whole["text"]
                assert numbers == list(range(count)), (split, count, batch_size, numbers)
                assert texts == [f"no. {number}" for number in range(count)]
                assert sizes == {batch_size // 2 if split else batch_size}


def check_metrics_keep_every_nesting():
    accelerator = Accelerator()
    ready = accelerator.prepare(loader(5, 2))
    found = []
    for batch in ready:
        ids = batch["id"]
        words = tuple(f"w{number}" for number in ids.tolist())
        tokens = [[f"a{number}", "b"] for number in ids.tolist()]
        value = OrderedDict(
            pair=Pair(ids, [ids * 2.5, (ids > 2,)]), out=Output(ids[:, None]), words=words, tokens=tokens
        )
        found.append(accelerator.gather_for_metrics(value))
    for first, last in [(0, 4), (4, 5)]:
        whole = found.pop(0)
        ids = torch.arange(first, last)
        assert type(whole) is OrderedDict
        assert torch.equal(whole["pair"].left, ids)
        assert torch.equal(whole["pair"].right[0], ids * 2.5)
        assert torch.equal(whole["pair"].right[1][0], ids > 2)
        assert torch.equal(whole["out"].scores, ids[:, None])
        assert whole["out"].note is None
        assert whole["words"] == tuple(f"w{number}" for number in range(first, last))
        assert whole["tokens"] == [[f"a{number}", "b"] for number in range(first, last)]
    assert not found


def check_metrics_take_lists_of_objects_with_tensors_when_asked():
    accelerator = Accelerator()
    seen = []
    for batch in accelerator.prepare(loader(5, 2)):
        boxes = [{"boxes": torch.zeros(number, 4)} for number in batch["id"].tolist()]
        seen += [len(item["boxes"]) for item in accelerator.gather_for_metrics(boxes, use_gather_object=True)]
    assert seen == [0, 1, 2, 3, 4]


def check_metrics_without_fill_see_each_sample_once():
    accelerator = Accelerator(even_batches=False)
    for count in (3, 4, 7, 8, 11):
        ready = accelerator.prepare(loader(count, 2))
        batches = list(ready)
        counts = accelerator.gather([len(batches), sum(len(batch["id"]) for batch in batches)])
        assert counts[1] + counts[3] == count
    seen = []
    for batch in accelerator.prepare(loader(7, 2)):
        seen += accelerator.gather_for_metrics(batch["id"]).tolist()
    assert seen == list(range(7))


def check_metrics_with_a_batch_sampler_of_many_sizes():
    accelerator = Accelerator()
    batches = [[0, 1, 2], [3], [4, 5], [6, 7, 8, 9], [10]]
    seen = []
    for batch in accelerator.prepare(DataLoader(Numbers(11), batch_sampler=batches)):
        seen += accelerator.gather_for_metrics(batch["id"]).tolist()
    assert seen == list(range(11))


def check_metrics_of_a_loader_that_makes_no_batches():
    accelerator = Accelerator()
    sampler = BatchSampler(SequentialSampler(range(7)), 2, drop_last=False)

    class Batches(Numbers):
        def __getitem__(self, index):
            return torch.tensor(index)

    for wanted in (sampler, None):
        seen = []
        for batch in accelerator.prepare(DataLoader(Batches(7), batch_size=None, sampler=wanted)):
            seen += accelerator.gather_for_metrics(batch.reshape(-1)).tolist()
        assert seen == list(range(7)), seen


def check_metrics_of_a_stream_see_each_sample_once():
    for options in ({}, {"num_workers": 1}):
        for split in (False, True):
            accelerator = Accelerator(split_batches=split)
            for count in (1, 3, 4, 5, 8, 9) if not options else (5,):
                ready = accelerator.prepare(DataLoader(Stream(count), batch_size=2, **options))
                seen = []
                for batch in ready:
                    assert len(batch) == (1 if split else 2)
                    seen += accelerator.gather_for_metrics(batch)[:, 0].tolist()
                assert seen == list(range(count)), (options, split, count, seen)


def check_metrics_of_a_stream_without_fill():
    accelerator = Accelerator(even_batches=False)
    for count in (1, 2, 3, 5, 8):
        ready = accelerator.prepare(DataLoader(Stream(count), batch_size=2))
        seen = []
        for batch in ready:
            seen += accelerator.gather_for_metrics(batch)[:, 0].tolist()
        assert seen == list(range(count)), (count, seen)


def check_metrics_refuse_a_size_that_is_not_the_batches():
    accelerator = Accelerator()
    for batch in accelerator.prepare(loader(8, 4)):
        for wrong in (torch.zeros(3), torch.tensor(1.0), ["a"], {"x": batch["id"][:2]}):
            with refuses("J506", "4 samples", "gathering.py"):
                accelerator.gather_for_metrics(wrong)


def check_metrics_take_a_loss_repeated_as_often_as_batches_are_long():
    accelerator = Accelerator(even_batches=False)
    rank = accelerator.process_index
    for ready in (accelerator.prepare(loader(13, 4)), accelerator.prepare(DataLoader(Stream(13), batch_size=4))):
        found = [accelerator.gather_for_metrics(torch.tensor(float(rank)).repeat(4)).tolist() for _ in ready]
        assert found == [[0.0] * 4 + [1.0] * 4, [0.0] * 4 + [1.0]], found
    half = Accelerator(even_batches=False, split_batches=True)
    found = [len(half.gather_for_metrics(torch.zeros(2))) for _ in half.prepare(loader(7, 4))]
    assert found == [4, 3], found


def check_metrics_outside_of_loops_are_gathered():
    accelerator = Accelerator()
    ready = accelerator.prepare(loader(5, 4))
    for _ in ready:
        pass
    assert accelerator.gather_for_metrics(torch.ones(3)).shape == (6,)
    for _ in ready:
        break
    assert accelerator.gather_for_metrics(torch.ones(3)).shape == (6,)


def check_gather_takes_every_type():
    accelerator = Accelerator()
    rank = accelerator.process_index
    for kind in (torch.bool, torch.int16, torch.int64, torch.bfloat16, torch.float64, torch.complex64, torch.uint8):
        value = torch.full((2, 3), rank).to(kind)
        assert torch.equal(accelerator.gather(value), torch.tensor([[0] * 3] * 2 + [[1] * 3] * 2).to(kind))
    assert torch.equal(accelerator.gather(torch.tensor(rank)), torch.tensor([0, 1]))
    assert accelerator.gather(torch.zeros(0, 3)).shape == (0, 3)
    turned = torch.arange(6).reshape(2, 3).T + rank
    assert torch.equal(accelerator.gather(turned)[3:], torch.arange(6).reshape(2, 3).T + 1)
    whole = accelerator.gather({"a": (torch.tensor([rank]), [rank, "x"]), "b": None, "c": f"r{rank}"})
    assert whole["a"][0].tolist() == [0, 1]
    assert whole["a"][1] == [0, "x", 1, "x"]
    assert (whole["b"], whole["c"]) == (None, ["r0", "r1"])


def check_reduce_sums_or_averages_into_new_tensors():
    accelerator = Accelerator()
    mine = torch.tensor([1.0, 2.0]) * (accelerator.process_index + 1)
    whole = accelerator.reduce({"x": [mine]})
    assert whole["x"][0].tolist() == [3.0, 6.0]
    assert accelerator.reduce(mine, "mean").tolist() == [1.5, 3.0]
    assert mine.tolist() == [accelerator.process_index + 1.0, 2 * (accelerator.process_index + 1.0)]
    with refuses("J507", "none"):
        accelerator.reduce(mine, "none")


def check_pad_fills_to_the_largest_size():
    accelerator = Accelerator()
    rank = accelerator.process_index
    mine = torch.ones(2, 1 + 2 * rank)
    assert (
        accelerator.pad_across_processes(mine, dim=1, pad_index=-1).tolist()
        == [[1, -1, -1] if rank == 0 else [1.0] * 3] * 2
    )
    front = accelerator.pad_across_processes([mine], dim=-1, pad_first=True)[0]
    assert front.tolist() == [[0, 0, 1] if rank == 0 else [1.0] * 3] * 2
    assert accelerator.pad_across_processes(mine, dim=4) is mine
