"""Checks of data that the first process reads for all, in a world of any size."""

import os

import torch
from common import Accelerator, Numbers, Stream, job, loader, refuses
from jobc import DataLoaderConfiguration
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, SequentialSampler

SIZE = int(os.environ.get("WORLD_SIZE", "1"))
RANK = int(os.environ.get("RANK", "0"))


def accelerator_of(*, dispatch=True, **options):
    return Accelerator(dataloader_config=DataLoaderConfiguration(dispatch_batches=dispatch, **options))


def batches_of(make, **options):
    """What each loop hands out here: batches, real samples gathered, sizes, and what windows need to know."""
    accelerator = accelerator_of(**options)
    ready = accelerator.prepare(make())
    found = []
    for batch in ready:
        position = accelerator._live.innermost
        numbers = batch["id"] if isinstance(batch, dict) else batch
        facts = (position.size, position.real, position.rows, position.mean, position.last, position.closes)
        whole = accelerator.gather_for_metrics(batch)
        found.append((numbers.tolist(), str(whole), facts, position.remaining, position.extra, position.upto))
    return found


def check_batches_are_those_that_each_process_would_read():
    for options in ({}, {"even_batches": False}, {"split_batches": True}):
        for count in (1, 2, 7, 8, 13, 16):
            for made in ({"batch_size": 4}, {"batch_size": 4, "drop_last": True}, {"batch_size": 4, "num_workers": 2}):
                if made.get("num_workers") and count != 13:
                    continue
                if options.get("split_batches") and not made.get("drop_last") and options.get("even_batches") is False:
                    continue

                def make(count=count, made=made):
                    return DataLoader(Numbers(count), **made)

                own = batches_of(make, dispatch=False, **options) if collective(count, made, options) else None
                if own is not None:
                    assert batches_of(make, **options) == own, (options, count, made)


def collective(count, made, options):
    """Whether all processes have equally many batches, so that they can gather at each."""
    if options.get("even_batches", True):
        return True
    batches = count // 4 if made.get("drop_last") else -(-count // 4)
    return made.get("drop_last", False) or batches % SIZE == 0


def check_shuffled_and_uneven_data_is_dealt_out_whole():
    accelerator = accelerator_of(even_batches=False)
    ready = accelerator.prepare(loader(11, 2, shuffle=True))
    for _ in range(2):
        mine = [number for batch in ready for number in batch["id"].tolist()]
        assert sorted(accelerator.gather(mine)) == list(range(11))


def check_any_batch_sampler_and_none():
    ragged = [[0, 1, 2], [3], [4, 5], [6, 7, 8, 9], [10]]

    class Batches(Numbers):
        def __getitem__(self, index):
            return torch.tensor(index)

    def many():
        return DataLoader(Numbers(11), batch_sampler=ragged)

    def unbatched():
        sampler = BatchSampler(SequentialSampler(range(7)), 2, drop_last=False)
        return DataLoader(Batches(7), batch_size=None, sampler=sampler)

    assert batches_of(many) == batches_of(many, dispatch=False)
    accelerator = accelerator_of()
    seen = []
    for batch in accelerator.prepare(unbatched()):
        seen += accelerator.gather_for_metrics(batch).tolist()
    assert seen == list(range(7))


class Odd:
    """An object that is no container, with a tensor in it."""

    def __init__(self, value):
        self.value = value


def check_batches_hold_anything():
    def collate(samples):
        numbers = [sample["id"] for sample in samples]
        return {
            "ragged": torch.zeros(sum(numbers), 2) + numbers[0],
            "list": [torch.ones(number) for number in numbers],
            "texts": [sample["text"] for sample in samples],
            "odd": Odd(torch.tensor(numbers)),
            "pair": (None, torch.tensor(2.5, dtype=torch.bfloat16), torch.zeros(0, 3)),
            "turned": torch.arange(6).reshape(2, 3).T,
            "sparse": torch.eye(2).to_sparse(),
            "imaginary": torch.tensor([1 + 2j]).conj(),
        }

    accelerator = accelerator_of()
    for number, batch in enumerate(accelerator.prepare(loader(2 * SIZE, 1, collate_fn=collate))):
        own = number * SIZE + RANK
        assert torch.equal(batch["ragged"], torch.zeros(own, 2) + own)
        assert [len(item) for item in batch["list"]] == [own]
        assert batch["texts"] == [f"no. {own}"]
        assert batch["odd"].value.tolist() == [own]
        assert batch["pair"][0] is None
        assert (batch["pair"][1].item(), batch["pair"][2].shape) == (2.5, (0, 3))
        assert batch["turned"].tolist() == [[0, 3], [1, 4], [2, 5]]
        assert batch["sparse"].to_dense().tolist() == torch.eye(2).tolist()
        assert batch["imaginary"].tolist() == [1 - 2j]


class Mine(Dataset):
    """Data that only the first process may touch."""

    def __len__(self):
        assert RANK == 0, "its length was asked for"
        return 9

    def __getitem__(self, index):
        assert RANK == 0, "it was read"
        return index


class MineInTurn(IterableDataset):
    """A stream that only the first process may touch."""

    def __iter__(self):
        assert RANK == 0, "it was read"
        return iter(range(9))


def check_only_the_first_process_touches_the_data():
    for dataset in (Mine(), MineInTurn()):
        accelerator = accelerator_of()
        ready = accelerator.prepare(DataLoader(dataset, batch_size=2))
        seen = []
        for batch in ready:
            seen += accelerator.gather_for_metrics(batch).tolist()
        assert seen == list(range(9))
        if isinstance(dataset, Mine):
            assert len(ready) == -(-5 // SIZE)
            seen = []
            for batch in accelerator.skip_first_batches(ready, 1):
                seen += accelerator.gather_for_metrics(batch).tolist()
            assert seen == list(range(2 * SIZE, 9))


def check_streams_are_dealt_out_in_order():
    for even in (True, False):
        for split in (False, True):
            for workers in (0, 1):
                for count in (0, 1, 3, 4, 5, 8, 9) if not workers else (5,):
                    accelerator = accelerator_of(even_batches=even, split_batches=split)
                    stream = DataLoader(Stream(count), batch_size=4, num_workers=workers)
                    seen, lasts = [], []
                    for batch in accelerator.prepare(stream):
                        seen += accelerator.gather_for_metrics(batch)[:, 0].tolist()
                        lasts.append(accelerator._live.innermost.last)
                    assert seen == list(range(count)), (even, split, workers, count, seen)
                    assert lasts == [False] * (len(lasts) - 1) + [True] * bool(lasts)
    accelerator = accelerator_of()
    ready = accelerator.prepare(DataLoader(Stream(4 * SIZE + 1), batch_size=2, drop_last=True))
    assert [len(batch) for batch in ready] == [2, 2]
    assert [batch[0].item() for batch in accelerator.skip_first_batches(ready, 1)] == [2 * SIZE + 2 * RANK]


class Broken(Dataset):
    """Data with a sample that cannot be read."""

    def __init__(self, bad):
        self.bad = bad

    def __len__(self):
        return 8 * SIZE

    def __getitem__(self, index):
        if index == self.bad:
            raise ValueError("sample with no end")
        return index


class Ends(IterableDataset):
    def __iter__(self):
        yield 1
        raise ValueError("sample with no end")


def check_what_goes_wrong_in_the_first_process_is_known_in_all():
    unlucky = (DataLoader(Broken(0)), DataLoader(Broken(4 * SIZE)), DataLoader(Broken(3), num_workers=1))
    strange = DataLoader(range(8 * SIZE), collate_fn=lambda _samples: lambda: None)
    for given in (*unlucky, DataLoader(Ends()), strange):
        accelerator = accelerator_of()
        try:
            for _ in accelerator.prepare(given):
                pass
        except Exception as error:  # noqa: BLE001 - which one it is depends on the process
            text = f"{type(error).__name__}: {error}"
            words = "lambda" if given is strange else "sample with no end"
            assert words in text, text
            assert RANK == 0 or "the first process, which reads the data for all, failed with" in text
        else:
            raise AssertionError("nothing was raised")
        assert accelerator.gather([RANK]) == list(range(SIZE))


def check_a_loop_may_be_left():
    accelerator = accelerator_of()
    ready = accelerator.prepare(loader(8 * SIZE, 2))
    for _ in range(2):
        for batch in ready:
            assert batch["id"].tolist() == [2 * RANK, 2 * RANK + 1]
            break


def check_windows_know_the_end():
    accelerator = Accelerator(
        gradient_accumulation_steps=2, dataloader_config=DataLoaderConfiguration(dispatch_batches=True)
    )
    line, ready = accelerator.prepare(nn.Linear(1, 1), DataLoader(range(3 * SIZE), batch_size=1))
    synced = []
    for batch in ready:
        with accelerator.accumulate(line):
            accelerator.backward(line(batch[:, None].float()).sum())
            synced.append((accelerator.sync_gradients, accelerator._progress.window))
    assert synced == [(False, 2), (True, 2), (True, 1)]


def check_the_job_says_it():
    blocks = {"hardware": {"kind": "cpu", "per_node": SIZE}, "training": {"dataloader": {"dispatch": True}}}
    with job(["training.dataloader.dispatch"], **blocks):
        ready = Accelerator().prepare(DataLoader(Mine(), batch_size=2))
        assert len(list(ready)) == -(-5 // SIZE)
        with refuses("J503", "`training.dataloader.dispatch: true`"):
            accelerator_of(dispatch=False)
    with job(**blocks):
        accelerator_of(dispatch=False)
