"""What a person sees when a job of several processes fails, or does not do what it was set up for."""

import pytest
import torch
from jobc import Accelerator
from torch import nn

FAILS = """
import torch
from jobc import Accelerator
from torch import nn
accelerator = Accelerator()
model = accelerator.prepare(nn.Linear(4, 1))
for step in range(50):
    if step == 2 and accelerator.is_last_process:
        raise KeyError("only here")
    accelerator.backward(model(torch.ones(2, 4)).sum())
"""


@pytest.mark.parametrize("paradigm", ["ddp", "fsdp"])
def test_exception_in_one_process_ends_all_and_is_shown_first(jobc_command, folder, paradigm):
    """The first traceback is that of the process that failed, not those of the ones that waited for it."""
    (folder / "train.py").write_text(FAILS)
    (folder / "job.yaml").write_text(f"script: train.py\nhardware: {{kind: cpu, per_node: 2}}\nparadigm: {paradigm}\n")
    ended = jobc_command("run", "job.yaml")
    text = ended.stdout + ended.stderr
    errors = [line for line in text.splitlines() if "Error: " in line]
    assert ended.returncode == 1, text
    assert errors, text
    assert "KeyError: 'only here'" in errors[0], text


def test_accumulation_that_a_script_does_not_use_is_hinted_at_once(capsys):
    """Windows without `accumulate` are said once; a script that counts batches itself is left alone."""
    for passes, hints in ((1, 1), (2, 0)):
        accelerator = Accelerator(gradient_accumulation_steps=2, cpu=True)
        model = nn.Linear(1, 1)
        model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
        for _ in range(3):
            for _ in range(passes):
                accelerator.backward(model(torch.ones(1, 1)).sum())
            optimizer.step()
        assert capsys.readouterr().err.count("hint[J512]") == hints
