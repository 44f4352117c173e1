"""What cannot be saved, or not there, is a finding before anything is written."""

import pytest
from jobc import Accelerator, FindingsError
from torch import nn


def refused(accelerator, *arguments):
    """The finding about a call of `save_model`."""
    with pytest.raises(FindingsError) as raised:
        accelerator.save_model(*arguments)
    (found,) = raised.value.findings
    assert found.place.source == __file__
    return found


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    """Also where the file stands further up; it stays as it was."""
    accelerator = Accelerator(cpu=True)
    file = tmp_path / "model.safetensors"
    file.write_text("old")
    for folder in (file, str(file), file / "below" / "it"):
        found = refused(accelerator, nn.Linear(1, 1), folder)
        assert found.code == "J507"
        assert f"save_directory: `{folder}` cannot be a folder, for `{file}` is a file" in found.cause
    assert refused(accelerator, nn.Linear(1, 1), 3).cause == "save_directory: `3` is no path"
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_what_is_no_model_is_refused(tmp_path):
    """A state given in place of its model, and what was never one."""
    accelerator = Accelerator(cpu=True)
    for given in ({}, nn.Linear(1, 1).state_dict(), None):
        found = refused(accelerator, given, tmp_path / "new")
        assert found.code == "J504"
        assert type(given).__name__ in found.cause
    assert not (tmp_path / "new").exists()
