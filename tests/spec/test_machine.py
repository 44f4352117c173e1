"""Counting devices from files alone."""

import socket
from pathlib import Path

import pytest
from jobc.spec.machine import count_gpus, free_port


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


def test_free_port_is_one_that_no_connection_is_given(monkeypatch):
    """Below the range of the kernel; one that somebody listens on is passed over."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    monkeypatch.setattr("os.urandom", bytes)
    first = free_port()
    with socket.create_server(("", first)):
        second = free_port()
    assert first < second < lowest
