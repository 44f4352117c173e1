"""Files that are not what they should be, refused quickly and by name."""

import os
from pathlib import Path

import pytest
from jobc.spec import FindingsError
from jobc.spec.resolve import resolve


def refusal(folder, name="job.yaml"):
    with pytest.raises(FindingsError) as caught:
        resolve(Path(name), (), env={}, cwd=folder, count_gpus=lambda: 0)
    return str(caught.value)


def test_missing_file_names_the_nearest(folder):
    """A slip in the name is the usual cause."""
    (folder / "job.yaml").write_text("script: train.py\n")
    assert refusal(folder, "jb.yaml") == (
        "error[J101]: `jb.yaml` does not exist\n  jb.yaml\n  did you mean `job.yaml`?"
    )


def test_missing_folder_is_named(folder):
    """The folder may be what is wrong."""
    assert "the folder" in refusal(folder, "nowhere/job.yaml")


def test_folder_is_refused(folder):
    """A folder is no job."""
    (folder / "job.yaml").mkdir()
    assert refusal(folder).startswith("error[J101]: `job.yaml` is a folder")


def test_fifo_is_refused_without_waiting(folder):
    """Opening a FIFO would hang until somebody writes."""
    os.mkfifo(folder / "job.yaml")
    assert refusal(folder).startswith("error[J101]: `job.yaml` is not a regular file")


def test_other_format_is_refused(folder):
    """JSON is not a job."""
    (folder / "job.json").write_text("{}")
    assert refusal(folder, "job.json").startswith("error[J101]: `job.json` does not end in .yaml, .yml or .toml")


def test_bytes_that_are_not_utf8_are_placed(folder):
    """The offending byte has a line and a column."""
    (folder / "job.yaml").write_bytes("script: train.py\nname: é".encode() + b"\xff\n")
    assert refusal(folder).startswith("error[J102]: byte 0xff is not UTF-8\n  job.yaml:2:8")


def test_nul_byte_is_refused(folder):
    """A NUL byte is no character of YAML."""
    (folder / "job.yaml").write_bytes(b"script: train.py\nname: a\0b\n")
    assert refusal(folder).startswith("error[J102]")


def test_large_file_is_refused(folder):
    """A job is a page; fifty megabytes are some other file."""
    (folder / "job.yaml").write_bytes(b"# " + b"x" * 50_000_000)
    assert refusal(folder).startswith("error[J111]: `job.yaml` is larger than 1024 KiB")


@pytest.mark.parametrize("text", ["a: " + "[" * 5000, "a:\n" + "".join(f"{' ' * n}- \n" for n in range(1, 300))])
def test_deep_nesting_is_refused(folder, text):
    """Depth is bounded before it can hurt."""
    (folder / "job.yaml").write_text(text)
    assert refusal(folder).startswith("error[J111]: the document is nested more than 64 levels deep")


def test_deep_toml_is_refused(folder):
    """TOML nests too."""
    (folder / "job.toml").write_text("a = " + "[" * 5000 + "]" * 5000)
    assert refusal(folder, "job.toml").startswith("error[J111]")


def test_alias_bomb_is_refused(folder):
    """A few lines of aliases cannot fill the memory."""
    levels = "".join(f"  l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 12))
    (folder / "job.yaml").write_text(f"script: train.py\nvars:\n  l0: &l0 [x, x, x]\n{levels}")
    assert refusal(folder).startswith("error[J111]: the document expands to more than 100000 values")


@pytest.mark.parametrize("raw", [b"\xef\xbb\xbfscript: train.py\n", b"script: train.py\r\nname: a\r\n"])
def test_byte_order_mark_and_carriage_returns_are_fine(folder, raw):
    """Files from other systems are read as they are."""
    (folder / "job.yaml").write_bytes(raw)
    spec = resolve(Path("job.yaml"), (), env={}, cwd=folder, count_gpus=lambda: 0)
    assert spec.job.script == "train.py"
