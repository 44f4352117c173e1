"""A small training with everything in it that has to go on after a resume, and what it left behind, to be compared."""

import hashlib
import json
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jobc import Accelerator, FullyShardedDataParallelPlugin
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

SAMPLES = 120


def sample(index, *, drawn):
    """A sample, with a random part that is drawn anew each time."""
    inputs = torch.randn(6, generator=torch.Generator().manual_seed(index))
    noise = 0.1 * torch.rand(6) if drawn else 0.0
    return {"id": index, "x": inputs + noise, "y": inputs.sum().reshape(1)}


class Indexed(Dataset):
    """Samples by index."""

    def __len__(self):
        return SAMPLES

    def __getitem__(self, index):
        return sample(index, drawn=True)


class Streamed(IterableDataset):
    """The same as a stream."""

    def __iter__(self):
        # Where there are no workers the next batch is read ahead, so that draws would come between those of the model.
        drawn = get_worker_info() is not None
        return (sample(index, drawn=drawn) for index in range(SAMPLES))


class Net(nn.Module):
    """Dropout, tied weights, a buffer and a stack of blocks."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(2)])
        self.norm = nn.BatchNorm1d(8, affine=False)
        self.drop = nn.Dropout(0.2)
        self.last = nn.Linear(8, 1)
        self.again = nn.Linear(6, 8, bias=False)
        self.again.weight = self.first.weight

    def forward(self, x):
        x = torch.tanh(self.first(x)) + self.again(x)
        for block in self.blocks:
            x = x + block(x)
        return self.last(self.drop(self.norm(x)))


class Seen:
    """What was trained on so far: batches by number, each its samples and its loss."""

    def __init__(self):
        self.batches = 0

    def state_dict(self):
        return {"batches": self.batches}

    def load_state_dict(self, state):
        self.batches = state["batches"]


@dataclass
class Options:
    """How a training is done. `save_at` and `kill_at` are numbers of batches, counted from 1."""

    folder: Path
    epochs: int = 2
    accumulation: int = 3
    batch_size: int = 4
    fsdp: bool = False
    stream: bool = False
    workers: int = 0
    tokens: bool = False
    save_at: tuple = ()
    kill_at: int = 0
    stop_at: int = 0
    resume_from: object = None
    seed: int = 3
    write: object = None
    project: dict = field(default_factory=dict)


class Run:
    """One training, from the start or from a checkpoint."""

    def __init__(self, options):
        self.options = options
        keywords = dict(options.project)
        if options.fsdp:
            keywords["fsdp_plugin"] = FullyShardedDataParallelPlugin()
        steps = None if os.environ.get("JOBC_SPEC") else options.accumulation
        self.accelerator = Accelerator(gradient_accumulation_steps=steps, cpu=True, **keywords)
        torch.manual_seed(options.seed)
        model = Net()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=500)
        data = Streamed() if options.stream else Indexed()
        order = torch.Generator().manual_seed(11)
        shuffle = {} if options.stream else {"shuffle": True, "generator": order}
        loader = DataLoader(data, batch_size=options.batch_size, num_workers=options.workers, **shuffle)
        self.model, self.optimizer, self.scheduler, self.loader = self.accelerator.prepare(
            model, optimizer, scheduler, loader
        )
        self.seen = Seen()
        self.accelerator.register_for_checkpointing(seen=self.seen)
        self.trace = {}
        torch.manual_seed(100 + self.accelerator.process_index)  # dropout differs between processes

    def train(self):
        """Trains to the end; what is left behind, the same in all processes."""
        options, accelerator = self.options, self.accelerator
        if options.resume_from is not None:
            accelerator.load_state(options.resume_from)
        for _ in accelerator.epochs(options.epochs):
            for batch in self.loader:
                self.seen.batches += 1
                if self.seen.batches == options.kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                self.step(batch)
                if self.seen.batches in options.save_at:
                    accelerator.save_state(options.folder / f"batch-{self.seen.batches}")
                if self.seen.batches == options.stop_at:
                    return self.left_behind()
        return self.left_behind()

    def step(self, batch):
        accelerator = self.accelerator
        with accelerator.accumulate(self.model):
            loss = mse_loss(self.model(batch["x"]), batch["y"])
            count = {"tokens": 3 + self.seen.batches % 4} if self.options.tokens else {}
            accelerator.backward(loss, **count)
            accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.scheduler.step()
            self.optimizer.zero_grad()
        line = (batch["id"].tolist(), loss.item())
        self.trace[self.seen.batches] = line
        if self.options.write is not None:
            name = f"rank{accelerator.process_index}.txt"
            with (self.options.write / name).open("a") as file:
                file.write(f"{self.seen.batches} {line!r}\n")

    def left_behind(self):
        """Everything that has to be the same: values, the optimizer's state, the schedule, counts."""
        accelerator = self.accelerator
        state = accelerator.get_state_dict(self.model)
        moments = [_whole(value) for item in self.optimizer.state.values() for value in item.values()]
        return {
            "model": {name: value.clone() for name, value in state.items()},
            "moments": moments,
            "schedule": self.scheduler.scheduler.state_dict(),
            "counts": (accelerator.step, accelerator.epoch, self.seen.batches),
            "random": torch.get_rng_state(),
        }


def _whole(value):
    value = value.full_tensor() if hasattr(value, "full_tensor") else value
    return value.detach().clone()


def equal(one, other, tolerance=0.0):
    """Whether two trainings left the same behind; bitwise without a tolerance. FSDP leaves values with the first."""
    assert one["counts"] == other["counts"], (one["counts"], other["counts"])
    assert one["schedule"] == other["schedule"]
    assert torch.equal(one["random"], other["random"]), "random states"
    pairs = [(name, one["model"][name], other["model"][name]) for name in one["model"]]
    pairs += [
        (f"moment {number}", *pair) for number, pair in enumerate(zip(one["moments"], other["moments"], strict=True))
    ]
    for name, left, right in pairs:
        if tolerance:
            torch.testing.assert_close(
                left, right, rtol=tolerance, atol=tolerance, msg=lambda text, n=name: f"{n}: {text}"
            )
        else:
            assert torch.equal(left, right), name
    return True


def digest(left):
    """What a training left behind as one short text."""
    found = hashlib.sha256()
    for value in [*left["model"].values(), *left["moments"], left["random"]]:
        found.update(bytes(value.contiguous().view(-1).view(torch.uint8).tolist()))
    return f"{found.hexdigest()[:16]} {left['counts']} {left['schedule']['_last_lr']}"


def main():
    """Trains as the JSON in the first argument says, and writes what is left behind."""
    given = json.loads(sys.argv[1])
    write = Path(given.pop("write"))
    first = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    kill_at, rank = given.pop("kill", (0, 0))
    kill = kill_at if first and os.environ.get("RANK", "0") == str(rank) else 0
    folder, point = Path(given.pop("folder")), given.pop("resume", None)
    start = None if point is None else folder / point
    run = Run(Options(folder, write=write, kill_at=kill, resume_from=start, **given))
    left = run.train()
    if run.accelerator.is_main_process:
        (write / "left.txt").write_text(digest(left))
    run.accelerator.end_training()


if __name__ == "__main__":
    main()
