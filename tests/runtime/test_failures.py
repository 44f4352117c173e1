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


AGAIN = FAILS.replace('"only here"', '"first attempt"').replace(
    "step == 2", "os.environ['TORCHELASTIC_RESTART_COUNT'] == '0' and step == 2"
)


def test_job_with_restarts_comes_back(jobc_command, folder):
    """All processes start again after one failed, meet over gloo and train to the end; the screen says what happened."""
    (folder / "train.py").write_text(f"import os\n{AGAIN}accelerator.print('trained to the end')\n")
    (folder / "job.yaml").write_text("script: train.py\nhardware: {kind: cpu, per_node: 2}\nnodes: {max_restarts: 1}\n")
    ended = jobc_command("run", "job.yaml")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "KeyError: 'first attempt'" in ended.stderr
    assert "jobc: rank 1 failed: exit code 1; all processes start again (restart 1)\n" in ended.stderr
    assert ended.stdout == "[0] trained to the end\n"


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
