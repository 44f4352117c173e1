"""Tokens per second of a small GPT on one GPU, in bf16 and compiled: `python benchmarks/gpu.py [ROUNDS]`.

Plain torch, jobc with a batch on its way and without, and Accelerate take turns in one process; figures are medians
over rounds. Data comes from two workers in pinned memory. `JOBC_BENCH_DEVICE=cpu` runs it small on a CPU, to see that
it runs.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ON_GPU = os.environ.get("JOBC_BENCH_DEVICE", "cuda") == "cuda"
STEPS, BATCH, LENGTH, WIDTH, LAYERS, WORDS = (60, 32, 512, 512, 8, 8192) if ON_GPU else (3, 2, 16, 32, 2, 64)
BACKEND = "inductor" if ON_GPU else "aot_eager"
Turn = Callable[[], float]


def parts() -> tuple[Any, ...]:
    """The model with its optimizer, and a loader of one turn's data."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    class GPT(nn.Module):
        """Attention and small networks over tokens."""

        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(WORDS, WIDTH)
            self.place = nn.Parameter(torch.zeros(LENGTH, WIDTH))
            self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
            self.head = nn.Linear(WIDTH, WORDS, bias=False)

        def forward(self, tokens: Any) -> Any:
            found = self.table(tokens) + self.place
            for block in self.blocks:
                found = block(found)
            return self.head(found)

    class Block(nn.Module):
        """Attention to what came before, then a small network."""

        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, inputs: Any) -> Any:
            shape = (*inputs.shape[:2], 8, WIDTH // 8)
            query, key, value = (item.view(shape).transpose(1, 2) for item in self.qkv(self.one(inputs)).chunk(3, -1))
            seen = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            inputs = inputs + self.out(seen.transpose(1, 2).flatten(2))
            return inputs + self.down(nn.functional.gelu(self.up(self.two(inputs))))

    torch.manual_seed(0)
    model = GPT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=ON_GPU)
    data = TensorDataset(torch.randint(WORDS, (STEPS * BATCH, LENGTH + 1)))
    loader = DataLoader(data, batch_size=BATCH, num_workers=2, pin_memory=ON_GPU, persistent_workers=True)
    return model, optimizer, loader


def loss_of(model: Any, tokens: Any) -> Any:
    import torch

    logits = model(tokens[:, :-1])
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())


def timed(loader: Any, step: Callable[[Any], None]) -> Turn:
    """A turn: seconds for one epoch, after everything that it asked of the device is done."""
    import torch

    def turn() -> float:
        start = time.perf_counter()
        for (tokens,) in loader:
            step(tokens)
        if ON_GPU:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    return turn


def plain() -> Turn:
    import torch

    device = torch.device("cuda" if ON_GPU else "cpu")
    model, optimizer, loader = parts()
    model.to(device).compile(backend=BACKEND)

    def step(tokens: Any) -> None:
        tokens = tokens.to(device, non_blocking=True)
        with torch.autocast(device.type, torch.bfloat16):
            loss = loss_of(model, tokens)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return timed(loader, step)


def accelerated(made: Any) -> Turn:
    """The loop that jobc and Accelerate share."""
    model, optimizer, loader = made.prepare(*parts())

    def step(tokens: Any) -> None:
        with made.accumulate(model):
            made.backward(loss_of(model, tokens))
            optimizer.step()
            optimizer.zero_grad()

    return timed(loader, step)


def ours(prefetch: int) -> Turn:
    """jobc in a job that says how many batches are sent ahead."""
    import jobc
    import msgspec

    with tempfile.TemporaryDirectory() as folder:
        job, spec = Path(folder) / "job.yaml", Path(folder) / "spec.json"
        job.write_text(
            f"version: 1\nname: bench\ncommand: ['true']\nhardware: {'gpu' if ON_GPU else 'cpu'}\nprecision: bf16\n"
            f"training: {{compile: {{backend: {BACKEND}}}, dataloader: {{prefetch: {prefetch}}}}}\n"
        )
        spec.write_bytes(msgspec.json.encode(jobc.load(job).document()))
        os.environ["JOBC_SPEC"] = str(spec)
        try:
            return accelerated(jobc.Accelerator())
        finally:
            del os.environ["JOBC_SPEC"]


def theirs() -> Turn:
    from accelerate import Accelerator

    return accelerated(Accelerator(mixed_precision="bf16", dynamo_backend=BACKEND, cpu=not ON_GPU))


def main() -> None:
    import torch

    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    if ON_GPU and not torch.cuda.is_available():
        print("no GPU that torch can use: nothing measured")
        return
    warnings.simplefilter("ignore")
    torch.set_float32_matmul_precision("high")
    turns = {
        "torch": plain(),
        "jobc, a batch sent ahead": ours(1),
        "jobc, none sent ahead": ours(0),
        "accelerate": theirs(),
    }
    taken: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(rounds + 1):
        for name, turn in turns.items():
            seconds = turn()
            if number:  # the first one compiles
                taken[name].append(seconds)
    where = torch.cuda.get_device_name() if ON_GPU else "the CPU, small"
    print(f"median of {rounds} interleaved rounds of {STEPS} steps on {where}\n")
    print("| GPT in bf16, compiled    | tokens/s | of torch |")
    print("|:-------------------------|---------:|---------:|")
    speeds = {name: STEPS * BATCH * LENGTH / statistics.median(values) for name, values in taken.items()}
    for name, speed in speeds.items():
        print(f"| {name:24} | {speed:8.0f} | {speed / speeds['torch']:8.3f} |")


if __name__ == "__main__":
    main()
