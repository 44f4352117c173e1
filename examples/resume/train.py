"""Fits a curve, is killed in the middle, and goes on as if nothing had happened."""

import argparse
import os
import signal
from pathlib import Path

import torch
from jobc import Accelerator
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset


def curve() -> TensorDataset:
    x = torch.linspace(-3, 3, 960).unsqueeze(1)
    return TensorDataset(x, torch.sin(2 * x) + 0.1 * torch.randn(960, 1, generator=torch.Generator().manual_seed(1)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--die-at", type=int, help="let a process of the first attempt be killed at this step")
    asked = parser.parse_args()

    accelerator = Accelerator()
    model = nn.Sequential(nn.Linear(1, 64), nn.Tanh(), nn.Dropout(0.1), nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=80)
    loader = DataLoader(curve(), batch_size=16, shuffle=True)
    model, optimizer, schedule, loader = accelerator.prepare(model, optimizer, schedule, loader)

    epochs = accelerator.epochs(asked.epochs)  # resumes, where the job says so and there is a checkpoint
    if accelerator.step:
        accelerator.print(f"goes on after step {accelerator.step}")
    for epoch in epochs:
        for x, y in loader:
            with accelerator.accumulate(model):
                loss = mse_loss(model(x), y)
                accelerator.backward(loss)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            if accelerator.step == asked.die_at and not Path("died").exists() and accelerator.is_last_process:
                Path("died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
        loss = accelerator.reduce(loss.detach(), "mean")
        accelerator.print(f"epoch {epoch}: step {accelerator.step}, loss {loss:.6f}")

    total = sum(value.double().sum() for value in accelerator.unwrap_model(model).state_dict().values())
    accelerator.print(f"sum of all parameters {total:.15f}")


if __name__ == "__main__":
    main()
