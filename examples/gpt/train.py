"""Learns to write like Python's documentation: a small character-level GPT on the standard library's docstrings."""

from __future__ import annotations

import argparse
import ast
import math
import sysconfig
from pathlib import Path

import torch
from jobc import Accelerator, set_seed
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from torch.utils.data import DataLoader, Dataset

MODULES = (
    "argparse", "ast", "asyncio/tasks", "collections/__init__", "datetime", "difflib", "doctest", "email/message",
    "fractions", "functools", "heapq", "inspect", "logging/__init__", "optparse", "pathlib", "pickletools", "random",
    "socket", "statistics", "string", "subprocess", "tarfile", "textwrap", "threading", "typing", "unittest/case",
    "urllib/parse", "zipfile",
)  # fmt: skip


def docstrings() -> str:
    """The docstrings of some modules, which come with every Python; printable ASCII only."""
    files = [Path(sysconfig.get_path("stdlib"), f"{name}.py") for name in MODULES]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files if file.exists()]
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    found = [ast.get_docstring(node) or "" for tree in trees for node in ast.walk(tree) if isinstance(node, kinds)]
    text = "\n\n".join(filter(None, found))
    return "".join(letter for letter in text if letter == "\n" or " " <= letter <= "~")


class Windows(Dataset):
    """Pieces of a text, each with the letter that follows every letter."""

    def __init__(self, tokens: Tensor, length: int) -> None:
        self.tokens, self.length = tokens, length

    def __len__(self) -> int:
        return (len(self.tokens) - 1) // self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        start = index * self.length
        piece = self.tokens[start : start + self.length + 1]
        return piece[:-1], piece[1:]


class Block(nn.Module):
    """Attention to what came before, then a small network."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    """A transformer over letters; the head shares its weights with the table of letters."""

    def __init__(self, letters: int, length: int, width: int, layers: int, heads: int = 4) -> None:
        super().__init__()
        self.length = length
        self.letter, self.place = nn.Embedding(letters, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, letters, bias=False)
        for table in (self.letter, self.place):
            nn.init.normal_(table.weight, std=0.02)
        self.head.weight = self.letter.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.letter(tokens) + self.place.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


@torch.no_grad()
def evaluate(accelerator: Accelerator, model: nn.Module, loader: DataLoader) -> float:
    """The mean loss over all letters of the text held back."""
    model.eval()
    losses = []
    for tokens, following in loader:
        loss = cross_entropy(model(tokens).flatten(0, 1), following.flatten(), reduction="none")
        losses.append(accelerator.gather_for_metrics(loss.view(tokens.shape).mean(1)))
    model.train()
    return torch.cat(losses).mean().item()


@torch.no_grad()
def write(model: nn.Module, letters: list[str], length: int, count: int, device: torch.device) -> str:
    """A text that the model makes up, letter by letter. Every process has to call it, for the model may be sharded."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.tensor([[letters.index("R")]], device=device)
    for _ in range(count):
        chances = (model(tokens[:, -length:])[0, -1].float() / 0.8).softmax(0).cpu()
        tokens = torch.cat([tokens, torch.multinomial(chances, 1, generator=generator).to(device)[None]], dim=1)
    return "".join(letters[index] for index in tokens[0].tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--letters", type=int, default=200, help="letters to write at the end")
    parser.add_argument("--out", type=Path, default=Path("out"))
    args = parser.parse_args()

    accelerator = Accelerator()
    set_seed(1)
    text = docstrings()
    letters = sorted(set(text))
    tokens = torch.tensor([letters.index(letter) for letter in text])
    train, held_back = tokens[: len(tokens) * 19 // 20], tokens[len(tokens) * 19 // 20 :]
    loader, test_loader = accelerator.prepare(
        DataLoader(Windows(train, args.length), batch_size=args.batch_size, shuffle=True, drop_last=True),
        DataLoader(Windows(held_back, args.length), batch_size=args.batch_size),
    )
    model = GPT(len(letters), args.length, args.width, args.layers)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / args.steps)))
    )
    model, optimizer, scheduler = accelerator.prepare(model, optimizer, scheduler)
    accelerator.print(
        f"{len(text)} letters of {len(letters)} kinds, {accelerator.num_processes} processes,"
        f" {accelerator.distributed_type.value}, {accelerator.mixed_precision}"
    )

    step = 0
    while step < args.steps:
        for inputs, following in loader:
            with accelerator.accumulate(model):
                loss = cross_entropy(model(inputs).flatten(0, 1), following.flatten())
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            step += accelerator.sync_gradients
            if accelerator.sync_gradients and step % 100 == 0:
                accelerator.print(f"step {step:4}   loss {accelerator.reduce(loss.detach(), 'mean').item():.3f}")
            if step == args.steps:
                break

    held = evaluate(accelerator, model, test_loader)
    accelerator.print(f"test loss {held:.4f}")
    model.eval()
    accelerator.print(write(model, letters, args.length, args.letters, accelerator.device))
    accelerator.save_model(model, args.out)
    accelerator.end_training()


if __name__ == "__main__":
    main()
