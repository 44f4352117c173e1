"""Counting devices from files alone."""

import pytest
from jobc.spec.machine import count_gpus


@pytest.mark.parametrize(
    ("names", "env", "count"),
    [
        ([], {}, 0),
        (["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"], {}, 2),
        (["nvidia0", "nvidia1"], {"CUDA_VISIBLE_DEVICES": "1"}, 1),
        (["nvidia0", "nvidia1"], {"CUDA_VISIBLE_DEVICES": ""}, 0),
        (["nvidia0"], {"CUDA_VISIBLE_DEVICES": "-1"}, 0),
        (["nvidia0"], {"CUDA_VISIBLE_DEVICES": "0,1,2"}, 1),
    ],
)
def test_gpus_are_counted_as_a_process_would_see_them(tmp_path, names, env, count):
    """Device files, narrowed by CUDA_VISIBLE_DEVICES."""
    for name in names:
        (tmp_path / name).touch()
    assert count_gpus(env, tmp_path) == count
