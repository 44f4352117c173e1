"""Learns to read handwritten digits: a small convolutional network on the 1797 scans that scikit-learn brings along."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from jobc import Accelerator
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm


def make_model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.3),
        nn.Flatten(), nn.Linear(64 * 4 * 4, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def load_scans() -> tuple[TensorDataset, TensorDataset]:
    """Training and test data: images of 1 x 8 x 8 between 0 and 1, and the digits they show."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(digits.target)
    train, test = train_test_split(range(len(labels)), test_size=0.2, random_state=0, stratify=labels)
    return TensorDataset(images[train], labels[train]), TensorDataset(images[test], labels[test])


@torch.no_grad()
def evaluate(accelerator: Accelerator, model: nn.Module, loader: DataLoader) -> float:
    """The share of test scans that the model reads right."""
    model.eval()
    right, seen = 0, 0
    for images, labels in loader:
        predicted, labels = accelerator.gather_for_metrics((model(images).argmax(1), labels))  # noqa: PLW2901
        right += int((predicted == labels).sum())
        seen += len(labels)
    return right / seen


def draw(losses: list[float], accuracies: list[float], path: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - only the process that draws needs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    _, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    left.semilogy(losses)
    left.set(title="training loss", xlabel="batch")
    right.plot(range(1, len(accuracies) + 1), accuracies, marker=".")
    right.set(title="test accuracy", xlabel="epoch")
    plt.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path("out"))
    args = parser.parse_args()

    accelerator = Accelerator()
    train, test = load_scans()
    train_loader, test_loader = accelerator.prepare(
        DataLoader(train, batch_size=16, shuffle=True), DataLoader(test, batch_size=64)
    )
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters())
    steps = args.epochs * -(-len(train_loader) // accelerator.gradient_accumulation_steps)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=8e-3, total_steps=steps)
    model, optimizer, scheduler = accelerator.prepare(model, optimizer, scheduler)

    losses, accuracies = [], []
    for epoch in range(args.epochs):
        model.train()
        bar = tqdm(train_loader, f"epoch {epoch + 1}", leave=False, disable=not accelerator.is_main_process)
        for images, labels in bar:
            with accelerator.accumulate(model):
                loss = cross_entropy(model(images), labels)
                accelerator.backward(loss)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            losses.append(loss.item())
        accuracies.append(evaluate(accelerator, model, test_loader))

    accelerator.save_model(model, args.out)
    if accelerator.is_main_process:
        draw(losses, accuracies, args.out / "training.png")
    accelerator.print(f"test accuracy {accuracies[-1]:.4f}")
    accelerator.end_training()


if __name__ == "__main__":
    main()
