"""Runs the checks of the modules named in every process of a world, and writes down how each ended."""

import importlib
import json
import os
import sys
import traceback
import warnings
from pathlib import Path

import pytest
import torch
from torch import distributed


def checks(subjects):
    """Every check by name, in the order written."""
    sys.path.insert(0, str(Path(__file__).parent))
    found = {}
    for subject in subjects:
        module = importlib.import_module(subject)
        for name, function in vars(module).items():
            if name.startswith("check_") and function.__module__ == module.__name__:
                found[f"{subject}_{name.removeprefix('check_')}"] = function
    return found


def variables():
    """The environment, but for what torch's compiler writes there when it is imported."""
    return {(name, value) for name, value in os.environ.items() if not name.startswith("TORCHINDUCTOR_")}


def main():
    folder = Path(sys.argv[1])
    warnings.simplefilter("error")
    before = variables()
    results = {}
    for name, function in checks(sys.argv[2:]).items():
        torch.manual_seed(0)
        try:
            function()
            assert variables() == before, f"written to the environment: {variables() ^ before}"
            results[name] = None
        except (Exception, pytest.fail.Exception):  # noqa: BLE001 - the test shows it
            results[name] = traceback.format_exc()
            print(name, results[name], file=sys.stderr)
        (folder / f"rank{os.environ.get('RANK', '0')}.json").write_text(json.dumps(results))
        if distributed.is_initialized():
            distributed.barrier()


if __name__ == "__main__":
    main()
