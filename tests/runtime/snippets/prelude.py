"""Runs the snippets beside this file, changed in their import lines only, in every process of a world."""

import json
import os
import re
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import pytest
import torch
from jobc import PartialState, broadcast_object_list
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

HERE = Path(__file__).parent


class Metric:
    """What `evaluate` would count."""

    count = 0

    def add_batch(self, predictions, targets):
        assert len(predictions) == len(targets)
        self.count += len(targets)


def names():
    """What the snippets take for granted."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    loader = DataLoader(TensorDataset(torch.randn(64, 4), torch.randn(64, 1)), batch_size=4)
    folder = broadcast_object_list([tempfile.mkdtemp()])[0]
    return {
        "__name__": "snippet",
        "torch": torch,
        "pytest": pytest,
        "model": model,
        "optimizer": optimizer,
        "train_dataloader": loader,
        "lr_scheduler": scheduler,
        "validation_dataloader": DataLoader(TensorDataset(torch.randn(27, 4), torch.randn(27, 1)), batch_size=4),
        "MODEL": model,
        "OPTIMIZER": optimizer,
        "TRAINING_DATALOADER": loader,
        "SCHEDULER": scheduler,
        "loss_function": nn.functional.mse_loss,
        "complex_loss_function": nn.functional.mse_loss,
        "metric": Metric(),
        "save_directory": folder,
        "changed": lambda _model: any(
            not torch.equal(now, then) for now, then in zip(model.parameters(), before, strict=True)
        ),
    }


def main():
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "`lr_scheduler.step|Detected call of")  # torch on a snippet that steps by hand
    results = {}
    state = PartialState()
    for path in sorted(HERE.glob("*.txt")):
        text = re.sub(r"^from accelerate(\.\w+)* import", "from jobc import", path.read_text(), flags=re.MULTILINE)
        try:
            exec(compile(text, path.name, "exec"), names())
            results[path.stem] = None
        except Exception:  # noqa: BLE001 - the test shows it
            results[path.stem] = traceback.format_exc()
            print(results[path.stem], file=sys.stderr)
        Path(sys.argv[1], f"rank{os.environ.get('RANK', '0')}.json").write_text(json.dumps(results))
        state.wait_for_everyone()


if __name__ == "__main__":
    main()
