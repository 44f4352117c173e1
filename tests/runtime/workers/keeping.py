"""Checks of what is saved and how: names, hooks, registered objects, what is refused."""

import resource
import signal
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from shutil import rmtree
from threading import Event

import pytest
import torch
from common import model, refuses, same
from jobc import Accelerator, FindingsError, ProjectConfiguration, load_checkpoint_in_model
from jobc.runtime.checkpoint import folders, manifest
from resuming import asynchronous, folder
from torch import nn


class Box:
    """An object with a state."""

    def __init__(self, value=None):
        self.value = value

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value = state["value"]


def prepared(seed=1, **keywords):
    accelerator = Accelerator(cpu=True, **keywords)
    net = model(seed)
    ready, optimizer = accelerator.prepare(net, torch.optim.AdamW(net.parameters(), lr=0.1))
    accelerator.backward(ready(torch.ones(2, 4)).sum())
    optimizer.step()
    optimizer.zero_grad()
    return accelerator, ready, optimizer


def check_names_go_on_after_a_resume_and_the_newest_are_kept():
    with folder() as path:
        config = ProjectConfiguration(project_dir=str(path), automatic_checkpoint_naming=True, total_limit=2)
        accelerator, *_ = prepared(project_config=config)
        saved = [accelerator.save_state() for _ in range(3)]
        assert saved[-1] == path / "checkpoints" / "checkpoint_2"
        accelerator, *_ = prepared(project_config=config)
        assert accelerator.save_iteration == 0
        assert accelerator.load_state() == saved[-1]
        assert accelerator.save_iteration == 3
        accelerator.save_state()
        accelerator._keeper.settle()
        accelerator.wait_for_everyone()
        assert sorted(item.name for item in (path / "checkpoints").iterdir()) == ["checkpoint_2", "checkpoint_3"]


def check_step_saved_twice_has_two_checkpoints():
    with folder() as path:
        accelerator, *_ = prepared(project_dir=path)
        found = [accelerator.save_state(), accelerator.save_state()]
        assert [item.name for item in found] == ["step-00000001", "step-00000001-2"]
        assert accelerator.load_state() == found[1]


def check_folder_that_holds_something_keeps_it():
    with folder() as path:
        accelerator, ready, _ = prepared()
        if accelerator.is_main_process:
            (path / "mine").mkdir()
            (path / "mine" / "notes.txt").write_text("keep")
        accelerator.wait_for_everyone()
        for _ in range(3):
            with torch.no_grad():
                next(ready.parameters()).add_(1)
            accelerator.save_state(path / "mine")
        other, loaded, _ = prepared(seed=5)
        other.load_state(path / "mine")
        assert same(loaded, ready)
        names = sorted(item.name for item in (path / "mine").iterdir())
        assert (path / "mine" / "notes.txt").read_text() == "keep"
        assert [name.partition("-")[0] for name in names] == ["files", "manifest.json", "notes.txt"], names


def check_folder_made_before_is_filled():
    with folder() as path:
        accelerator, *_ = prepared()
        (path / "made").mkdir(exist_ok=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(path / "made"))
        assert manifest.read(path / "made").base == ""


def check_full_model_is_one_that_others_read():
    with folder() as path:
        accelerator, ready, _ = prepared()
        accelerator.save_state(path / "c", full_model=True)
        other = model(7)
        load_checkpoint_in_model(other, path / "c", strict=True)
        assert same(other, accelerator.unwrap_model(ready))
        assert "model.safetensors" in manifest.read(path / "c").files
        with refuses("J507", "full_model"):
            accelerator.save_state(path / "d", safe_serialization=False)


def check_registered_objects_come_back_by_name():
    with folder() as path:
        value = {"text": "a", "many": [1, (2.5, None)], "large": torch.arange(99.0), "small": torch.tensor(3)}
        accelerator, *_ = prepared()
        accelerator.register_for_checkpointing(Box(1), Box(2), best=Box(value))
        accelerator.save_state(path / "c")
        accelerator, *_ = prepared()
        boxes = [Box(), Box(), Box()]
        accelerator.register_for_checkpointing(best=boxes[0])
        with refuses("J522", "`object_0` is in it and not registered here"):
            accelerator.load_state(path / "c")
        accelerator.register_for_checkpointing(object_1=boxes[2], object_0=boxes[1])
        accelerator.load_state(path / "c")
        assert [boxes[1].value, boxes[2].value] == [1, 2]
        found = boxes[0].value
        assert torch.equal(found.pop("large"), value["large"])
        assert found == {"text": "a", "many": [1, (2.5, None)], "small": torch.tensor(3)}


def check_numpy_comes_back_as_numpy():
    numpy = pytest.importorskip("numpy")
    with folder() as path:
        accelerator, *_ = prepared()
        box = Box([numpy.arange(3.0), numpy.float32(2), numpy.random.default_rng(1).bit_generator.state])
        accelerator.register_for_checkpointing(box)
        accelerator.save_state(path / "c")
        before, box.value = box.value, None
        accelerator.load_state(path / "c")
        assert isinstance(box.value[0], numpy.ndarray)
        assert isinstance(box.value[1], numpy.float32)
        assert (box.value[0].tolist(), box.value[1:]) == (before[0].tolist(), before[1:])


def check_what_could_not_be_read_back_is_refused_when_it_is_saved():
    with folder() as path:
        accelerator, *_ = prepared()
        accelerator.register_for_checkpointing(box=Box({"inner": [Box()]}))
        with refuses("J528", "`objects.box.value.inner.0` is a keeping.Box"):
            accelerator.save_state(path / "c")
        accelerator.wait_for_everyone()
        assert list(path.iterdir()) == []
        with refuses("J504", "has no state"):
            accelerator.register_for_checkpointing(3)
        with refuses("J507", "another object is registered as `box`"):
            accelerator.register_for_checkpointing(box=Box())


def check_hooks_may_keep_models_for_themselves():
    with folder() as path:
        accelerator, ready, _ = prepared()
        said = []

        def save(models, weights, where):
            said.append((len(models), len(weights)))
            if accelerator.is_main_process:
                torch.save(weights[0], Path(where) / "mine.pt")
            weights.pop()

        def load(models, where):
            found = accelerator.unwrap_model(models.pop())
            found.load_state_dict(torch.load(Path(where) / "mine.pt"))

        handle = accelerator.register_save_state_pre_hook(save)
        accelerator.save_state(path / "c")
        handle.remove()
        accelerator.save_state(path / "d")
        assert said == [(1, 1)]
        kept = manifest.read(path / "c")
        assert "mine.pt" in kept.files
        assert [item.stored for item in kept.models] == [False]
        other, loaded, _ = prepared(seed=4)
        with refuses("J522", "was left to a hook"):
            other.load_state(path / "c")
        other.register_load_state_pre_hook(load)
        other.load_state(path / "c")
        assert same(loaded, ready)


def check_another_model_is_refused_by_name():
    with folder() as path:
        accelerator, *_ = prepared()
        accelerator.save_state(path / "c")
        other = Accelerator(cpu=True)
        other.prepare(nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 1), nn.Linear(1, 1)))
        with refuses("J522", "it has no `3.weight`", "`0.weight` is (8, 4) float32 there and (9, 4) float32 here"):
            other.load_state(path / "c")
        two = Accelerator(cpu=True)
        two.prepare(model(), model())
        with refuses("J522", "has 1 models, and 2 are prepared"):
            two.load_state(path / "c")
        three = Accelerator(cpu=True)
        net = model()
        three.prepare(net, torch.optim.AdamW([{"params": [item]} for item in net.parameters()]))
        with refuses("J522", "other groups"):
            three.load_state(path / "c")
        with refuses("J522", "call `load_state` after `prepare`"):
            Accelerator(cpu=True).load_state(path / "c")
        alone = Accelerator(cpu=True)
        alone.prepare(model(3))
        alone.load_state(path / "c")  # a model without its optimizer, to be evaluated


def check_damaged_files_are_refused_and_an_older_checkpoint_is_offered():
    with folder() as path:
        accelerator, *_ = prepared(project_dir=path)
        old, new = accelerator.save_state(), accelerator.save_state()
        names = sorted(manifest.read(new).files)
        raw = {name: (new / name).read_bytes() for name in names}
        tensors = next(name for name in names if name.startswith("tensors"))
        faults = {
            "and .* were written": lambda: (new / tensors).write_bytes(raw[tensors][:-1]),
            "its checksum is not": lambda: (new / tensors).write_bytes(raw[tensors][:-1] + b"\1"),
            "it is missing": (new / tensors).unlink,
            "is no manifest": lambda: (new / "manifest.json").write_bytes(b"{"),
        }
        for words, damage in faults.items():
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                damage()
            accelerator.wait_for_everyone()
            with pytest.raises(FindingsError, match=words) as raised:
                accelerator.load_state()
            assert {item.code for item in raised.value.findings} == {"J521"}
            assert f'load_state("{old}")' in str(raised.value)
        accelerator.load_state(old)


def check_nothing_there_is_said():
    with folder() as path:
        accelerator, *_ = prepared(project_dir=path)
        with refuses("J520", "there is no complete checkpoint in"):
            accelerator.load_state()


def check_arguments_that_cannot_be_are_refused():
    with folder() as path:
        (path / "train.py").touch()
        accelerator, *_ = prepared()
        with refuses("J507", "total: `2.5` is no number of epochs", "keeping.py"):
            accelerator.epochs(2.5)
        with refuses("J507", "output_dir: `3` is no path", "keeping.py"):
            accelerator.save_state(3)
        with refuses("J507", "input_dir: `3` is no path", "keeping.py"):
            accelerator.load_state(3)
        with refuses("J520", "train.py` is no complete checkpoint: it is a file", "name the folder"):
            accelerator.load_state(path / "train.py")


def check_folder_that_cannot_be_written_is_named_and_the_training_can_go_on():
    with folder() as path:
        (path / "file").touch()
        accelerator, *_ = prepared()
        with refuses("J524", "cannot be written: File exists", "file"):
            accelerator.save_state(path / "file" / "c")
        with asynchronous(path / "file", on_error="continue", asynchronous=False), redirect_stderr(StringIO()) as said:
            accelerator, *_ = prepared()
            assert accelerator.save_state() is None
        assert ("the training goes on" in said.getvalue()) is accelerator.is_main_process


def check_folder_removed_while_it_is_written_is_said_at_the_next_save():
    with folder() as path, asynchronous(path / "c"):
        accelerator, *_ = prepared()
        keeper = accelerator._keeper
        draft = keeper._begin(path / "d")
        if accelerator.is_main_process:
            rmtree(draft.folder)
        accelerator.wait_for_everyone()
        keeper._write(draft, whole=False, safe=True)
        with refuses("J524", "`d` cannot be written"):
            accelerator.save_state()
        accelerator.save_state()
        keeper.settle()
        assert [item.path.name for item in folders.complete(path / "c")] == ["step-00000001"]


def check_disk_that_is_full_leaves_the_older_checkpoint():
    """A limit on the size of files is as near as one comes to a full disk without making one."""
    with folder() as path:
        accelerator, *_ = prepared(project_dir=path)
        old = accelerator.save_state()
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        heard = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (600, before[1]))
        try:
            with refuses("J524", "cannot be written: File too large"):
                accelerator.save_state()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, heard)
        accelerator.wait_for_everyone()
        assert [item.name for item in old.parent.iterdir()] == [old.name]
        assert accelerator.load_state() == old


def check_second_save_is_refused_where_the_job_says_so():
    with folder() as path, asynchronous(path / "c", when_busy="refuse"):
        accelerator, *_ = prepared()
        hold = Event()
        accelerator._keeper._background.start(hold.wait)
        with refuses("J525", "still being written"):
            accelerator.save_state()
        hold.set()
        accelerator._keeper.settle()
        assert accelerator.save_state() == path / "c" / "step-00000001"
        accelerator._keeper.settle()
