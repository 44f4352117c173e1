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


def test_gradients_of_a_window_that_nobody_divided_are_said_once(capsys):
    """`loss.backward()` within `accumulate` adds up what `accelerator.backward` would average."""
    accelerator = Accelerator(gradient_accumulation_steps=2, cpu=True)
    model = nn.Linear(1, 1)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
    warnings = []
    for backward in (accelerator.backward, torch.Tensor.backward, torch.Tensor.backward):
        for _ in range(2):
            with accelerator.accumulate(model):
                backward(model(torch.ones(1, 1)).sum())
                optimizer.step()
                optimizer.zero_grad()
        warnings.append(capsys.readouterr().err.count("warning[J518]: the gradients of 2 batches are added up"))
    assert warnings == [0, 1, 0]


SHOWN = """
import sys
from jobc import Accelerator
from torch import nn


def train():
    accelerator = Accelerator(cpu=True)
    accelerator.prepare(nn.Linear(1, 1), "text")


class Model(nn.Module):
    def forward(self, inputs):
        return inputs / 0


if sys.argv[1] == "finding":
    train()
elif sys.argv[1] == "kept":
    try:
        train()
    except Exception as error:
        import traceback
        print(any("prepare.py" in frame.filename for frame in traceback.extract_tb(error.__traceback__)))
        raise
Accelerator(cpu=True, mixed_precision="bf16").prepare(Model())(1)
"""


def test_finding_is_shown_at_the_line_of_the_script(alone, tmp_path):
    """No frame of jobc stands between the script's own line and what it did wrong."""
    (tmp_path / "train.py").write_text(SHOWN)
    ended = alone(tmp_path / "train.py", "finding")
    frames = [line for line in ended.stderr.splitlines() if line.startswith("  File ")]
    assert ended.returncode == 1
    assert [frame.split(", in ")[-1] for frame in frames] == ["<module>", "train"], ended.stderr
    assert "error[J504]" in ended.stderr
    assert 'accelerator.prepare(nn.Linear(1, 1), "text")' in ended.stderr


def test_other_errors_are_shown_whole_and_findings_keep_their_frames(alone, tmp_path):
    """What is not jobc's own error has all its frames; so has a finding, for debuggers and for who catches it."""
    (tmp_path / "train.py").write_text(SHOWN)
    ended = alone(tmp_path / "train.py", "other")
    assert ended.stderr.rstrip().endswith("ZeroDivisionError: division by zero")
    assert "precision.py" in ended.stderr
    ended = alone(tmp_path / "train.py", "kept")
    assert ended.stdout == "True\n"
    assert "prepare.py" not in ended.stderr
