"""Documents resolved without a machine: no environment, no devices."""

from pathlib import Path

import pytest
from jobc.spec.resolve import resolve


@pytest.fixture
def resolved(folder):
    """Resolves a document with overrides."""

    def run(text, *overrides, env=None, name="job.yaml", gpus=0):
        (folder / name).write_text(text)
        return resolve(Path(name), overrides, env=env or {}, cwd=folder, count_gpus=lambda: gpus)

    return run
