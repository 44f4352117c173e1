"""The parts of the runtime, each alone, in a world of one."""

import copy
import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from jobc import Accelerator, DataLoaderConfiguration, FindingsError
from jobc.runtime.dealing import Deal, DealtBatches, Start
from jobc.runtime.live import Position
from jobc.runtime.progress import Progress
from safetensors import safe_open
from safetensors.torch import load_model
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset


def dealt(count, batch_size, processes, **options):
    """The batches of every process, and how many samples of each are real."""
    numbers = range(count)
    batches = [list(numbers[start : start + batch_size]) for start in range(0, count, batch_size)]
    if options.get("drop_last") and count % batch_size:
        batches.pop()
    found = []
    for rank in range(processes):
        settings = {"split": False, "even": True, "drop_last": False, **options}
        sampler = DealtBatches(batches, Deal(rank=rank, size=processes, batch_size=batch_size, **settings))
        sampler.begin(Start())
        mine = list(sampler)
        shares = list(sampler.ledger)
        if not settings["split"] or settings["even"]:
            assert len(sampler) == len(mine)
        assert [share.last for share in shares] == [False] * (len(mine) - 1) + [True] * bool(mine)
        assert [share.size for share in shares] == [len(batch) for batch in mine]
        found.append((mine, [share.real for share in shares]))
    return found


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
@pytest.mark.parametrize("split", [False, True])
def test_dealing_gives_every_sample_once_and_equal_batches(processes, split):
    """Whatever the sizes, the real samples in the order of the processes are the data, and fill makes batches equal."""
    for count in range(1, 30):
        for batch_size in (processes, 2 * processes, 12):
            parts = dealt(count, batch_size, processes, split=split)
            steps = {len(batches) for batches, _ in parts}
            assert len(steps) == 1
            order = []
            for step in range(steps.pop()):
                for batches, reals in parts:
                    order += batches[step][: reals[step]]
                    if processes > 1:
                        assert len(batches[step]) == (batch_size // processes if split else batch_size)
            assert order == list(range(count))


def test_dealing_without_fill_leaves_the_rest_uneven():
    """Each sample is dealt out exactly once, and processes may have different numbers of batches."""
    for split in (False, True):
        parts = dealt(13, 4, 2, even=False, split=split)
        assert sorted(number for batches, _ in parts for batch in batches for number in batch) == list(range(13))


def test_progress_knows_the_true_length_of_the_last_window():
    """Of ten batches in windows of four the last has two, and is known to when it begins."""
    progress, position = Progress(4), Position(remaining=10)
    divisors, syncs = [], []
    while position.remaining:
        position.closes = position.remaining == 1
        assert progress.advance(position) == 1
        divisors.append(progress.divisor)
        syncs.append(progress.sync)
        progress.leave()
        position.remaining -= 1
    assert divisors == [4] * 8 + [2] * 2
    assert [number for number, sync in enumerate(syncs) if sync] == [3, 7, 9]
    assert progress.divisor == 4


def test_progress_corrects_a_window_whose_end_came_early():
    """Where the end was not known, gradients so far are multiplied so that all batches weigh the same."""
    progress = Progress(4)
    assert progress.advance(Position()) == 1
    assert progress.advance(Position()) == 1
    assert progress.advance(Position(closes=True)) == 4 / 3
    assert (progress.divisor, progress.sync) == (3, True)


class Words(nn.Module):
    """A model with two names for one tensor, and an attribute that scripts read."""

    def __init__(self):
        super().__init__()
        self.config = "small"
        self.table = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.table.weight
        self.register_buffer("rows", self.table.weight.detach()[:2])
        pair = torch.randn(3, 2)
        self.register_buffer("left", pair[:, 0])
        self.register_buffer("right", pair[:, 1])

    def forward(self, tokens):
        hidden = self.head(self.table(tokens))
        return {"logits": hidden, "pair": (hidden, [hidden.mean()]), "label": "x"}


def test_saved_model_keeps_tied_weights_once(tmp_path):
    """Tied tensors are stored once with the alias in the metadata, and torch loads them tied again."""
    accelerator = Accelerator()
    model = accelerator.prepare(Words())
    accelerator.save_model(model, tmp_path / "deep" / "folder")
    path = tmp_path / "deep" / "folder" / "model.safetensors"
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == {"table.weight", "left", "right"}
        assert file.metadata() == {"format": "pt", "head.weight": "table.weight", "rows": "table.weight"}
        assert torch.equal(file.get_tensor("right"), model.right)
    other = Words()
    other.left, other.right = other.left.clone(), other.right.clone()
    load_model(other, path)
    assert torch.equal(other.head.weight, model.head.weight)
    assert torch.equal(other.rows, model.rows)
    assert other.head.weight is other.table.weight


def test_failed_save_leaves_the_old_file(tmp_path):
    """What cannot be written neither replaces a file nor leaves a temporary one."""
    accelerator = Accelerator()
    accelerator.save({"step": 1}, tmp_path / "state.pt")
    with pytest.raises(AttributeError, match="local object"):
        accelerator.save({"step": lambda: 2}, tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt") == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "state.pt").stat().st_mode == plain.stat().st_mode


def test_compiled_model_is_saved_under_plain_names(tmp_path):
    """What torch.compile puts around a module is not part of its names."""
    accelerator = Accelerator()
    accelerator.save_model(torch.compile(nn.Linear(2, 2), backend="eager"), tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert set(file.keys()) == {"weight", "bias"}


@pytest.mark.parametrize(("precision", "half"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_prepared_model_computes_in_half_and_returns_single(precision, half):
    """The forward pass runs under autocast; outputs in any nesting come back in float32; attributes stay."""
    accelerator = Accelerator(mixed_precision=precision, cpu=True)
    model = accelerator.prepare(Words())
    seen = []
    model.head.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    out = model(torch.tensor([1]))
    assert seen == [half]
    assert out["logits"].dtype == out["pair"][1][0].dtype == torch.float32
    assert (out["label"], model.config) == ("x", "small")
    with accelerator.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == half


def test_copied_and_pickled_model_runs_its_own_parameters():
    """A deep copy of a prepared model, as an average of weights needs, does not run the original's parameters."""
    accelerator = Accelerator(mixed_precision="bf16", cpu=True)
    model = accelerator.prepare(nn.Linear(2, 2))
    clone, loaded = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    with torch.no_grad():
        model.weight.zero_()
        model.bias.zero_()
    inputs = torch.ones(1, 2)
    assert model(inputs).abs().sum() == 0
    assert clone(inputs).abs().sum() > 0
    assert loaded(inputs).abs().sum() > 0


def test_backward_without_the_accelerator_is_refused_in_fp16():
    """The loss was not scaled, so that its gradients cannot be taken for scaled ones."""
    accelerator = Accelerator(cpu=True, mixed_precision="fp16")
    model = nn.Linear(2, 2)
    model, optimizer = accelerator.prepare(model, AdamW(model.parameters()))
    model(torch.ones(1, 2)).sum().backward()
    with pytest.raises(RuntimeError, match=r"in place of `loss\.backward\(\)`"):
        optimizer.step()
    with pytest.raises(RuntimeError, match=r"in place of `loss\.backward\(\)`"):
        accelerator.clip_grad_norm_(model.parameters(), 1.0)


@pytest.mark.parametrize("keywords", [{}, {"gradient_accumulation_steps": 2}, {"mixed_precision": "fp16"}])
def test_prepared_optimizer_is_an_optimizer_for_torch(keywords):
    """Schedulers made before or after, state, groups and hooks all reach the optimizer inside."""
    model = nn.Linear(2, 2)
    inner = AdamW(model.parameters(), lr=1.0)
    early = LambdaLR(inner, lambda step: 0.5**step)
    accelerator = Accelerator(cpu=True, **keywords)
    model, optimizer = accelerator.prepare(model, inner)
    assert isinstance(optimizer, torch.optim.Optimizer)
    late = LambdaLR(optimizer, lambda step: 0.5**step)
    calls = []
    optimizer.register_step_post_hook(lambda *_: calls.append(1))
    for _ in range(2):
        with accelerator.accumulate(model):
            accelerator.backward(model(torch.ones(1, 2)).sum() / 8)
            optimizer.step()
            optimizer.zero_grad()
    assert len(calls) == (1 if accelerator.gradient_accumulation_steps == 2 else 2)
    early.step()
    late.step()
    assert optimizer.param_groups[0]["lr"] == inner.param_groups[0]["lr"] == 0.5
    saved = optimizer.state_dict()
    assert saved["state"][0]["step"] > 0
    fresh = AdamW(model.parameters(), lr=7.0)
    Accelerator().prepare(fresh).load_state_dict(saved)
    assert fresh.param_groups[0]["lr"] == 0.5
    assert fresh.state


def test_accumulation_keeps_gradients_until_the_window_closes():
    """zero_grad inside an open window keeps what has been added up."""
    accelerator = Accelerator(gradient_accumulation_steps=2)
    model = nn.Linear(1, 1, bias=False)
    model, optimizer = accelerator.prepare(model, SGD(model.parameters(), lr=0))
    seen = []
    for _ in range(4):
        with accelerator.accumulate(model):
            accelerator.backward(model(torch.ones(1, 1)).sum())
            seen.append(model.weight.grad.item())
            optimizer.step()
            optimizer.zero_grad()
    assert seen == [0.5, 1.0, 0.5, 1.0]


def test_several_optimizers_share_a_loss_scale():
    """Two optimizers on gradients of one backward pass both see true gradients, also when the scale grows."""
    accelerator = Accelerator(mixed_precision="fp16", cpu=True)
    one, two = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    first, second = accelerator.prepare(SGD(one.parameters(), lr=1.0), SGD(two.parameters(), lr=1.0))
    before = one.weight.item(), two.weight.item()
    accelerator.backward(one(torch.ones(1, 1)).sum() + two(torch.ones(1, 1)).sum())
    assert accelerator.clip_grad_norm_(one.parameters(), 10.0).item() == 1.0
    first.step()
    second.step()
    assert one.weight.item() == pytest.approx(before[0] - 1)
    assert two.weight.item() == pytest.approx(before[1] - 1)
    first.zero_grad()
    with pytest.raises(AssertionError, match="inf checks"):
        first.step()


class Rows(Dataset):
    """Samples of several kinds."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return {"x": torch.tensor([float(index)]), "name": f"n{index}"}


def test_loader_alone_gives_the_same_batches_as_torch():
    """In one process the batches are those of the plain loader, the last one short, nothing filled."""
    plain = DataLoader(Rows(), batch_size=2)
    accelerator = Accelerator()
    ready = accelerator.prepare(plain)
    assert len(ready) == 3
    sizes = []
    for ours, theirs in zip(ready, plain, strict=True):
        assert torch.equal(ours["x"], theirs["x"])
        whole = accelerator.gather_for_metrics(ours)
        assert whole["name"] == theirs["name"]
        sizes.append(len(whole["x"]))
    assert sizes == [2, 2, 1]


def test_shuffled_order_belongs_to_the_epoch(monkeypatch, job):
    """The same seed and epoch give the same order in every run; another epoch gives another, also after a break."""
    monkeypatch.setenv("JOBC_SPEC", str(job({"training": {"seed": 5}})))

    def orders(*, leave_first):
        loader = Accelerator().prepare(DataLoader(range(20), batch_size=20, shuffle=True))
        found = []
        for _ in range(3):
            for batch in loader:
                found.append(batch.tolist())
                if leave_first:
                    break
        return found

    first = orders(leave_first=False)
    assert first == orders(leave_first=True)
    assert len({tuple(order) for order in first}) == 3


def test_loader_does_not_draw_from_the_global_generator():
    """Iterating leaves torch's own generator where it was, so that dropout does not depend on the loaders."""
    loader = Accelerator().prepare(DataLoader(range(4), batch_size=2, shuffle=True))
    before = torch.get_rng_state()
    list(loader)
    assert torch.equal(torch.get_rng_state(), before)


def test_loader_with_a_generator_keeps_its_seed():
    """Two loaders with equally seeded generators of the user have the same order."""
    accelerator = Accelerator()
    orders = []
    for seed in (1, 1, 2):
        generator = torch.Generator().manual_seed(seed)
        orders.append(
            list(accelerator.prepare(DataLoader(range(50), batch_size=None, shuffle=True, generator=generator)))
        )
    assert orders[0] == orders[1] != orders[2]


def test_loader_that_is_prepared_again_begins_again():
    """A loader has the order of its seed for every Accelerator that prepares it, also of the user's generator's."""
    for generator in (None, torch.Generator().manual_seed(4)):
        plain = DataLoader(range(30), batch_size=30, shuffle=True, generator=generator)
        orders = []
        for _ in range(2):
            ready = Accelerator(dataloader_config=DataLoaderConfiguration(data_seed=5)).prepare(plain)
            orders.append([batch.tolist() for _ in range(2) for batch in ready])
        assert orders[0] == orders[1]


def test_loader_that_iterates_its_own_way_is_refused():
    """A subclass whose iteration cannot be dealt out is a finding, not a loader that every process reads whole."""

    class Own(DataLoader):
        def __iter__(self):
            yield from ()

    with pytest.raises(FindingsError, match="J504"):
        Accelerator().prepare(Own(range(3)))


class Endless(IterableDataset):
    """A stream whose samples are dictionaries."""

    def __iter__(self):
        yield from ({"n": number, "t": str(number)} for number in range(5))


def test_stream_alone_is_read_whole():
    """In one process a stream gives all its batches, the last one short and known as the last."""
    accelerator = Accelerator(gradient_accumulation_steps=2)
    model = accelerator.prepare(nn.Linear(1, 1))
    syncs, seen = [], []
    for batch in accelerator.prepare(DataLoader(Endless(), batch_size=2)):
        with accelerator.accumulate(model):
            syncs.append(accelerator.sync_gradients)
        seen += accelerator.gather_for_metrics(batch)["t"]
    assert syncs == [False, True, True]
    assert seen == list("01234")


@dataclass
class Batch:
    x: torch.Tensor
    note: str


def test_collectives_alone_are_the_identity():
    """A world of one has nothing to wait for and nothing to add."""
    accelerator = Accelerator()
    value = {"x": torch.tensor(2.0), "y": [Batch(torch.ones(2), "n")]}
    assert accelerator.gather(value) is value
    assert accelerator.gather_for_metrics(value) is value
    assert accelerator.reduce(value, "mean") is value
    assert accelerator.pad_across_processes(value) is value
    accelerator.wait_for_everyone()
    accelerator.end_training()


def test_print_and_turns_alone(capsys):
    """One process is the main process everywhere."""
    accelerator = Accelerator()
    accelerator.print("a", 1, sep="-")
    with accelerator.main_process_first(), accelerator.local_main_process_first():
        assert accelerator.on_main_process(lambda value: value)(3) == 3
    assert capsys.readouterr().out == "a-1\n"


def test_several_of_each_are_prepared_in_any_order():
    """Objects come back in the order given, and a scheduler finds its optimizer wherever it stands."""
    one, two = nn.Linear(1, 1), nn.Linear(1, 1)
    first, second = SGD(one.parameters(), lr=1.0), SGD(two.parameters(), lr=2.0)
    schedule = LambdaLR(second, lambda step: 0.5**step)
    loader = DataLoader(TensorDataset(torch.zeros(2, 1)))
    accelerator = Accelerator(mixed_precision="fp16", cpu=True)
    out = accelerator.prepare(schedule, loader, second, one, first, two)
    assert (out[0].scheduler, out[1].loader, out[2].optimizer, out[4].optimizer) == (schedule, loader, second, first)
    assert out[3] is one
    assert out[5] is two
    for model, optimizer, factor in ((one, out[4], float("inf")), (two, out[2], 1.0)):
        accelerator.backward(model(torch.ones(1, 1)).sum() * factor)
        optimizer.step()
        out[0].step() if optimizer is out[2] else None
    assert accelerator.optimizer_step_was_skipped
    assert schedule.get_last_lr() == [1.0]


DIGITS = Path(__file__).parents[2] / "examples" / "digits"


def test_digits_trains_in_two_processes_and_reads_its_model_again(launch, alone, tmp_path):
    """A short run of the example in two processes saves a model that one process reads with the same accuracy."""
    out = tmp_path / "out"
    trained = launch(DIGITS / "train.py", "--epochs", 2, "--out", out)
    assert trained.returncode == 0, trained.stderr
    said = trained.stdout.splitlines()[-1]
    assert said.startswith("test accuracy 0.")
    assert sorted(path.name for path in out.iterdir()) == ["model.safetensors", "training.png"]
    read = alone(DIGITS / "evaluate.py", "--out", out)
    assert read.returncode == 0, read.stderr
    assert read.stdout.splitlines()[-1] == said
