"""Checks of files, turns and Accelerators beside each other in a world of two."""

import tempfile
from pathlib import Path

import torch
from common import Accelerator, job, model, refuses
from safetensors.torch import load_model
from torch import distributed, nn


def shared_folder(accelerator):
    path = tempfile.mkdtemp() if accelerator.is_main_process else None
    return Path(next(item for item in accelerator.gather([path]) if item is not None))


def check_a_saved_model_is_there_for_all_when_saving_returns():
    accelerator = Accelerator()
    folder = shared_folder(accelerator)
    ready = accelerator.prepare(model())
    accelerator.save_model(ready, folder / "new")
    loaded = model(seed=2)
    load_model(loaded, folder / "new" / "model.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), ready.parameters(), strict=True))
    assert [path.name for path in (folder / "new").iterdir()] == ["model.safetensors"]
    accelerator.save({"step": accelerator.process_index}, folder / "state.pt")
    accelerator.wait_for_everyone()
    assert torch.load(folder / "state.pt") == {"step": 0}


def check_the_main_process_goes_first():
    accelerator = Accelerator()
    path = shared_folder(accelerator) / "done"
    with accelerator.main_process_first():
        assert path.exists() is not accelerator.is_main_process
        path.touch()
    with accelerator.local_main_process_first():
        assert path.exists()


def check_some_functions_run_in_one_process():
    accelerator = Accelerator()
    expected = 7 if accelerator.process_index == 0 else None
    assert accelerator.on_main_process(lambda: 7)() == expected
    assert accelerator.on_local_main_process(lambda: 7)() == expected
    assert accelerator.is_last_process is (accelerator.process_index == 1)


def check_accelerators_do_not_see_each_other():
    one, other = Accelerator(gradient_accumulation_steps=2), Accelerator()
    ready = one.prepare(nn.Linear(4, 1))
    with one.accumulate(ready):
        assert not one.sync_gradients
        assert other.sync_gradients
    assert other.gradient_accumulation_steps == 1


def check_a_group_of_the_users_is_left_open():
    accelerator = Accelerator()  # the group was opened by the first check's Accelerator
    accelerator.end_training()
    assert distributed.is_initialized()


def check_another_world_than_the_jobs_is_refused():
    with job(hardware={"kind": "cpu", "per_node": 3}), refuses("J501", "3 (1 x 3)"):
        Accelerator()
