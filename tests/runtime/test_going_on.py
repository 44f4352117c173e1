"""Data that goes on where it was stopped, in as many processes as there are now."""

import json
import random
from pathlib import Path

import pytest
import torch
from jobc import Accelerator, DataLoaderConfiguration, FindingsError, skip_first_batches
from jobc.runtime.dealing import Deal, DealtBatches, Start
from torch import nn
from torch.optim import SGD
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

SCRIPT = Path(__file__).parent / "workers" / "going_on.py"


@pytest.fixture(scope="module")
def went_on(launch, alone, tmp_path_factory):
    """What differs when runs of some processes go on in others: a text for each process, empty where nothing does."""
    folder = tmp_path_factory.mktemp("stops")

    def run(processes, *arguments):
        start = alone if processes == 1 else launch
        options = {} if processes == 1 else {"processes": processes}
        ended = start(SCRIPT, *arguments, **options)
        assert ended.returncode == 0, ended.stderr
        return ended

    def texts(before, now):
        file = folder / str(before)
        if not file.exists():
            run(before, "record", file)
        ended = run(now, "resume", file)
        found = [Path(f"{file}.to{now}.rank{rank}") for rank in range(now)]
        assert all(path.exists() for path in found), ended.stderr
        return [path.read_text() for path in found]

    return texts


@pytest.mark.parametrize(("before", "now"), [(1, 1), (2, 2), (1, 2), (2, 4), (4, 1)])
def test_data_goes_on_after_every_batch(went_on, before, now):
    """New objects in new processes hand out what was left, of any kind of data and at every batch of two epochs."""
    assert went_on(before, now) == [""] * now


def dealt(order, size, processes, start, **options):
    """What each process gets from a start on, with the shares, and how many batches that should be."""
    found = []
    for rank in range(processes):
        settings = {"split": False, "even": True, "drop_last": False, **options}
        deal = Deal(rank=rank, size=processes, batch_size=size, **settings)
        sampler = DealtBatches(BatchSampler(order, size, settings["drop_last"]), deal)
        sampler.begin(start)
        found.append((list(sampler), list(sampler.ledger), deal.count(sampler.rounds.left)))
    return found


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_dealing_goes_on_as_if_it_had_not_stopped(processes):
    """The same batches, fill and shares follow, and how many there are is known before they are read."""
    for options in ({}, {"even": False}, {"drop_last": True}, {"split": True}):
        for count in (1, 5, 12, 19):
            order, size = list(range(100, 100 + count)), 2 * processes
            whole = dealt(order, size, processes, Start(), **options)
            for done in range(1, max(len(batches) for batches, _, _ in whole) + 1):
                upto = next(shares[done - 1].upto for batches, shares, _ in whole if len(batches) >= done)
                for start in (Start(samples=upto), Start(batches=done)):
                    rest = dealt(order, size, processes, start, **options)
                    for (batches, shares, _), (left, their_shares, number) in zip(whole, rest, strict=True):
                        assert (left, their_shares) == (batches[done:], shares[done:]), (options, count, start)
                        assert number == len(left) or "split" in options


def test_dealing_goes_on_in_the_middle_of_a_batch():
    """Where batches are of another size now, none is cut short but the one in which the others stopped."""
    sampler = DealtBatches(
        [[0, 1, 2], [3, 4, 5], [6]], Deal(rank=0, size=1, split=False, even=True, batch_size=None, drop_last=False)
    )
    sampler.begin(Start(samples=4))
    assert list(sampler) == [[4, 5], [6]]
    assert dealt(range(10), 3, 1, Start(samples=4))[0][0] == [[4, 5, 6], [7, 8, 9]]
    assert dealt(range(10), 3, 2, Start(samples=10))[0][0] == []


def loader_of(accelerator=None, data=range(10), **options):
    return (accelerator or Accelerator()).prepare(DataLoader(data, batch_size=2, **options))


def stopped(loader, batches):
    """The state while the loop has so many batches behind it or in hand."""
    for number, _ in enumerate(loader, 1):
        if number == batches:
            return loader.state_dict()
    return loader.state_dict()


def rest(state, data=range(10), **options):
    loader = loader_of(data=data, **options)
    loader.load_state_dict(json.loads(json.dumps(state)))
    return loader, [batch.tolist() for batch in loader]


def test_last_batch_in_hand_leaves_an_empty_rest():
    """A loop stopped at its last batch has nothing left, so that what a script does after it is done once."""
    state = stopped(loader_of(), 5)
    loader, batches = rest(state)
    assert (batches, state["last"]) == ([], True)
    assert len(list(loader)) == 5
    assert loader.epoch == 2


def test_epoch_that_is_over_is_followed_by_the_next_one():
    """After the loop, or a break out of it, a new epoch begins."""
    for batches in (2, 99):
        loader = loader_of(shuffle=True)
        stopped(loader, batches)
        state = loader.state_dict()
        assert (state["epoch"], state["under_way"], state["samples"]) == (1, False, 0)
        assert rest(state, shuffle=True)[1] == [batch.tolist() for batch in loader]


def test_skipping_is_absolute_and_takes_the_restored_place():
    """`skip_first_batches` counts from the start of the epoch; the epoch after it is whole."""
    loader = loader_of()
    loader.load_state_dict(stopped(loader_of(), 2))
    assert [batch.tolist() for batch in skip_first_batches(loader, 3)] == [[6, 7], [8, 9]]
    assert len(list(loader)) == 5
    assert loader.epoch == 2


def test_other_epoch_begins_at_its_start():
    """`set_epoch` keeps a restored place in the same epoch, and leaves it for another."""
    for epoch, first in ((0, [4, 5]), (1, [0, 1])):
        loader = loader_of()
        loader.load_state_dict(stopped(loader_of(), 2))
        loader.set_epoch(epoch)
        assert next(iter(loader)).tolist() == first


def test_state_that_was_loaded_is_the_state():
    """Saving again before anything was read says the same."""
    state = stopped(loader_of(shuffle=True), 3)
    loader = loader_of(shuffle=True)
    loader.load_state_dict(state)
    assert loader.state_dict() == state


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(10))


@pytest.mark.parametrize(
    ("data", "words"),
    [(range(12), "of 10 samples, and this loader has 12"), (Stream(), "this loader has iterable data")],
)
def test_state_of_other_data_is_refused(data, words):
    """What cannot go on is a finding, in the middle of an epoch; between epochs the data may be another."""
    state = stopped(loader_of(), 2)
    with pytest.raises(FindingsError, match=words) as raised:
        loader_of(data=data).load_state_dict(state)
    assert [item.code for item in raised.value.findings] == ["J507"]
    loader = loader_of()
    list(loader)
    loader_of(data=data).load_state_dict(loader.state_dict())


def test_stream_goes_on_with_as_many_workers():
    """Each worker has a stream of its own, so another number of them is refused."""
    state = stopped(loader_of(data=Stream(), num_workers=1), 2)
    with pytest.raises(FindingsError, match="1 worker read the stream, and now there would be 2"):
        loader_of(data=Stream(), num_workers=2).load_state_dict(state)
    assert [batch.tolist() for batch in skip_first_batches(loader_of(data=Stream()), 3)] == [[6, 7], [8, 9]]


def trained(accelerator, loader, batches, model=None):
    """Trains on so many batches, in epochs."""
    model = model or nn.Linear(1, 1)
    model, optimizer = accelerator.prepare(model, SGD(model.parameters(), lr=0.1))
    done = 0
    while done < batches:
        for batch in loader:
            with accelerator.accumulate(model):
                accelerator.backward(model(batch[:, None].float()).mean())
                optimizer.step()
                optimizer.zero_grad()
            done += 1
            for _ in loader_of(accelerator):
                pass
            if done == batches:
                yield
    yield


def counts(accelerator):
    progress = accelerator._progress
    return progress.epoch, progress.step, progress.samples


def test_progress_counts_the_training_and_nothing_else():
    """Epochs, steps and samples are those of the loop in which the optimizer steps, not of evaluations in it."""
    accelerator = Accelerator(gradient_accumulation_steps=2)
    loader = loader_of(accelerator)
    assert len(list(loader)) == 5
    for _ in trained(accelerator, loader, 8):
        found = counts(accelerator)
    assert found == (2, 6, 20)  # a generator that is not asked any more ends its loop
    model = nn.Linear(1, 1)
    accelerator.prepare(SGD(model.parameters(), lr=0.1)).step()
    assert counts(accelerator)[1] == 6  # the second optimizer of a training takes the same steps


def test_progress_goes_on_in_the_middle_of_a_window():
    """Counts and the open window are those of a run that was not stopped; samples are not counted twice."""
    whole = []
    for stop in (None, 1, 2, 3, 4, 5):
        accelerator = Accelerator(gradient_accumulation_steps=2)
        model, optimizer, loader = accelerator.prepare(
            line := nn.Linear(1, 1), SGD(line.parameters(), lr=0.1), DataLoader(range(10), batch_size=2)
        )
        found = []
        for epoch in range(2):
            for number, batch in enumerate(loader, 1):
                with accelerator.accumulate(model):
                    accelerator.backward(model(batch[:, None].float()).mean())
                    optimizer.step()
                found.append((*counts(accelerator), accelerator.sync_gradients, accelerator._progress.window))
                if epoch == 0 and number == stop:
                    states = accelerator._progress.state_dict(), loader.state_dict()
                    accelerator = Accelerator(gradient_accumulation_steps=2)
                    model, optimizer, loader = accelerator.prepare(
                        line := nn.Linear(1, 1), SGD(line.parameters(), lr=0.1), DataLoader(range(10), batch_size=2)
                    )
                    accelerator._progress.load_state_dict(json.loads(json.dumps(states[0])))
                    loader.load_state_dict(states[1])
                    break
            if stop is not None and epoch == 0:
                for batch in loader:
                    with accelerator.accumulate(model):
                        accelerator.backward(model(batch[:, None].float()).mean())
                        optimizer.step()
                    found.append((*counts(accelerator), accelerator.sync_gradients, accelerator._progress.window))
        whole.append((found, counts(accelerator)))
    assert whole[0][1] == (2, 6, 20)
    assert all(item == whole[0] for item in whole), whole


def test_something_can_be_done_between_batches():
    """It is called after each body of an outermost loop, when states are those after this batch; not after a break."""
    accelerator = Accelerator()
    loader, other = loader_of(accelerator), loader_of(accelerator)
    log = []
    accelerator._live.between = lambda: log.append(loader.state_dict()["samples"])
    for batch in loader:
        list(other)
        log.append(f"{batch[0].item()}")
    assert log == ["0", 2, "2", 4, "4", 6, "6", 8, "8", 10]
    log.clear()
    for one, two in zip(loader, other, strict=True):
        assert torch.equal(one, two)
        log.append("body")
    assert log == ["body", 2, "body", 4, "body", 6, "body", 8, "body", 10]
    log.clear()
    for _ in loader:
        break
    assert log == []


def test_workers_draw_what_belongs_to_the_batch():
    """Randomness in workers is the same with any number of them, and in every run."""

    def drawn(workers):
        config = DataLoaderConfiguration(data_seed=3)
        collate = lambda numbers: [(number, random.random(), torch.rand(1).item()) for number in numbers]  # noqa: E731
        loader = DataLoader(range(6), batch_size=2, num_workers=workers, collate_fn=collate)
        return list(Accelerator(dataloader_config=config).prepare(loader))

    first = drawn(1)
    assert first == drawn(2) == drawn(1)
    assert len({number for batch in first for _, *numbers in batch for number in numbers}) == 12


def test_optimizers_are_not_hinted_at_windows_of_one(capsys):
    """With fp16 and no windows there is nothing to accumulate, and nothing to say."""
    accelerator = Accelerator(mixed_precision="fp16", cpu=True)
    model = nn.Linear(1, 1)
    model, optimizer = accelerator.prepare(model, SGD(model.parameters(), lr=0.1))
    accelerator.backward(model(torch.ones(1, 1)).sum())
    optimizer.step()
    assert "J512" not in capsys.readouterr().err
