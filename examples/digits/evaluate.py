"""Reads the test scans with the model that train.py saved."""

from __future__ import annotations

import argparse
from pathlib import Path

from jobc import Accelerator
from safetensors.torch import load_model
from torch.utils.data import DataLoader
from train import evaluate, load_scans, make_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"), help="the folder that train.py wrote to")
    args = parser.parse_args()

    accelerator = Accelerator()
    model = make_model()
    load_model(model, args.out / "model.safetensors")
    _, test = load_scans()
    model, loader = accelerator.prepare(model, DataLoader(test, batch_size=64))
    accuracy = evaluate(accelerator, model, loader)
    accelerator.end_training()
    accelerator.print(f"test accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
