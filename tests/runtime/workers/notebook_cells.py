"""What a notebook does, cell by cell; each prints its name and what came of it."""

import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

import torch
from jobc import Accelerator, FindingsError, debug_launcher, notebook_launcher
from jobc.runtime import notebook

left = []


def train(name, number):
    accelerator = Accelerator()
    gathered = accelerator.gather(torch.tensor([accelerator.process_index + number])).tolist()
    text = f"{accelerator.process_index} of {accelerator.num_processes} {accelerator.mixed_precision} {gathered}"
    os.write(1, f"{name}: {text}\n".encode())
    left.append("here")


def contradict():
    try:
        Accelerator(mixed_precision="no")
    except FindingsError as error:
        place = error.findings[0].related[0][1]
        print(f"contradiction: {error.findings[0].code} {place}", flush=True)


def fail():
    accelerator = Accelerator()
    if accelerator.process_index == 1:
        raise ValueError("boom")
    accelerator.wait_for_everyone()


def die():
    accelerator = Accelerator()
    if accelerator.process_index == 1:
        os.kill(os.getpid(), 9)
    accelerator.wait_for_everyone()


def meet(name, number):
    accelerator = Accelerator()
    gathered = accelerator.gather(torch.tensor([accelerator.process_index + number])).tolist()
    text = f"{accelerator.process_index} of {accelerator.num_processes} {accelerator.mixed_precision} {gathered}"
    how = "spawn" if any("spawn_main" in word for word in sys.orig_argv) else "fork"
    os.write(1, f"{name}: {text} {how}\n".encode())


def start_beside_a_device():
    """As where CUDA is in use. There is none here, so torch's own word for it is changed for a while."""
    debug_launcher(meet, ("as before", 7))
    with mock.patch.object(torch.cuda, "is_initialized", return_value=True):
        debug_launcher(meet, ("anew", 7))
        notebook_launcher(meet, ("anew in bf16", 7), num_processes=2, mixed_precision="bf16")
        with mock.patch.object(torch.cuda, "device_count", return_value=2), tempfile.TemporaryDirectory() as folder:
            line = "net = net.cuda() if torch.cuda.device_count() > 9 else net\n"
            (Path(folder) / "warms_up.py").write_text(f"import torch\nnet = torch.nn.Linear(1, 1)\n{line}")
            sys.path.insert(0, folder)
            importlib.import_module("warms_up")
            globals()["In"] = ["", "from warms_up import net"]
            try:
                notebook_launcher(meet, ("never", 7), num_processes=2)
            except FindingsError as error:
                print("in use:", error.findings[0].code, *str(error).splitlines())


def main():
    before = dict(os.environ)
    start_beside_a_device()
    debug_launcher(train, ("debug", 5))
    notebook_launcher(train, ("forked", 5), num_processes=2, mixed_precision="bf16")
    env = {"JOBC_SPEC": notebook._document("cpu", 2, "bf16")}
    notebook.start(lambda name: train(name, 5), ("spawned",), 2, env, method="spawn")
    left.clear()
    notebook_launcher(train, ("alone", 5), num_processes=1, mixed_precision="bf16")
    print(f"left: {left[0]}")
    notebook_launcher(contradict, mixed_precision="bf16")
    for name, function in (("failed", fail), ("killed", die)):
        try:
            debug_launcher(function)
        except notebook.ProcessFailedError as error:
            lines = str(error).strip().splitlines()
            print(f"{name}: {lines[0]}")
            if len(lines) > 1:
                print(f"{name}: {lines[-1]}")
    children = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "args="], capture_output=True, text=True)
    print("left over:", sum("notebook_cells" in line for line in children.stdout.splitlines()))
    print("environment:", "same" if dict(os.environ) == before else "changed")


if __name__ == "__main__":
    main()
