"""`jobc schema`: the published schema, printed or written."""

import json

from jobc.spec.shape import SCHEMA_FILE


def test_schema_is_printed(jobc_command):
    """The committed bytes."""
    done = jobc_command("schema")
    assert (done.returncode, done.stdout) == (0, SCHEMA_FILE.read_text())


def test_schema_is_written_in_one_piece(jobc_command, folder):
    """The file takes the place of the old one, and nothing is left beside it."""
    (folder / "job.schema.json").write_text("old")
    before = (folder / "job.schema.json").stat().st_ino
    assert jobc_command("schema", "-o", "job.schema.json").returncode == 0
    assert json.loads((folder / "job.schema.json").read_text())["title"] == "jobc job"
    assert (folder / "job.schema.json").stat().st_ino != before
    assert sorted(path.name for path in folder.iterdir()) == ["job.schema.json", "train.py"]


def test_schema_that_cannot_be_written_exits_2(jobc_command, folder):
    """No traceback, and no half of a file."""
    done = jobc_command("schema", "-o", "nowhere/job.schema.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "Error: `nowhere/job.schema.json` cannot be written: No such file or directory\n"
