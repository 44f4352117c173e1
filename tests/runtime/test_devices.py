"""The model of the GPUs that a job names, and the device that a process finds."""

import pytest
import torch
from jobc.runtime.devices import confirm, mistaken
from jobc.spec.model import Cpu, Gpu


def test_device_of_another_model_is_refused():
    """The finding names both, and the word for what is there."""
    assert mistaken("h200", "NVIDIA H200") is None
    text = mistaken("h100", "NVIDIA H200").render()
    assert "error[J505]" in text
    assert "`hardware.model: h100`" in text
    assert "`NVIDIA H200`" in text
    assert "write `hardware.model=h200`, or run it on a machine with NVIDIA H100" in text


def test_device_that_no_table_knows_is_refused():
    """A device of next year is none of those that the job can name."""
    assert "leave `hardware.model` out" in mistaken("h100", "NVIDIA X9000").next_step


def test_nothing_is_looked_at_where_the_job_names_no_model():
    """Without a model any device is right."""
    confirm(Gpu(), torch.device("cuda", 0))
    confirm(Cpu(), torch.device("cpu"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_device_of_this_machine_is_in_the_table():
    """What torch says of it is what the catalogue has."""
    from jobc.spec.catalogue import accelerators

    name, memory = torch.cuda.get_device_name(0), torch.cuda.get_device_properties(0).total_memory
    (found,) = [item for item in accelerators().values() if item.is_called(name)]
    assert any(0.85 < memory / (size * 1e9) < 1.1 for size in found.memory_gb)
    assert torch.cuda.is_bf16_supported(including_emulation=False) is found.bf16
