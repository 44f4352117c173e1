"""Folders of checkpoints without a training: manifests, hashes, names, what may be removed."""

import json
import os
import random
import sys
from hashlib import sha256

import pytest
from jobc.runtime.checkpoint import folders, manifest, tensors, verify
from jobc.runtime.checkpoint.manifest import MadeBy, Manifest, StoredFile
from jobc.spec.findings import FindingsError


def checkpoint(path, sequence=1, **files):
    """A complete checkpoint with files of some content."""
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name).write_bytes(content)
    stored = {name: verify.describe(path / name) for name in files}
    made = MadeBy(processes=1, strategy="none")
    found = Manifest(
        sequence=sequence, step=sequence, epoch=0, samples=0, time="", made_by=made, versions={}, files=stored
    )
    (path / manifest.FILE).write_bytes(manifest.encoded(found))
    return path


def refusal(path):
    with pytest.raises(FindingsError) as raised:
        manifest.read(path)
    return raised.value.findings[0]


def test_manifest_reads_back(tmp_path):
    """What was written is what is read."""
    found = manifest.read(checkpoint(tmp_path / "step-00000001", a=b"1", b=b"22"))
    assert found.files["b"] == StoredFile(2, sha256(b"22" + b"\0" * 6).hexdigest())
    assert found.size == 3


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda raw: raw[:-9], "J521", "no manifest"),
        (lambda raw: raw.replace(b'"step": 1', b'"step": 2'), "J521", "its digest differs"),
        (lambda raw: raw.replace(b'"format": 1', b'"format": 99'), "J523", "format 99"),
        (lambda raw: b"\xff\xfe" + raw, "J521", "no manifest"),
        (lambda raw: b"[]", "J521", "no manifest"),
    ],
    ids=["truncated", "changed", "newer", "bytes", "another kind"],
)
def test_manifest_that_is_not_as_written_is_refused(tmp_path, change, code, words):
    """Each fault by its name."""
    path = checkpoint(tmp_path / "step-00000001", a=b"1") / manifest.FILE
    path.write_bytes(change(path.read_bytes()))
    found = refusal(path.parent)
    assert found.code == code
    assert words in found.cause


def test_folder_without_manifest_is_no_checkpoint(tmp_path):
    """The manifest is written last."""
    assert refusal(tmp_path).code == refusal(tmp_path / "nothing").code == "J520"


def test_faults_are_named(tmp_path):
    """Truncated, changed, missing and swapped files."""
    path = checkpoint(tmp_path / "c", short=b"12345", flipped=b"12345", gone=b"1", one=b"abc", other=b"xyz", good=b"g")
    (path / "short").write_bytes(b"123")
    (path / "flipped").write_bytes(b"12346")
    (path / "gone").unlink()
    (path / "one").write_bytes(b"xyz")
    (path / "other").write_bytes(b"abc")
    found = {fault.path.name: fault.why for fault in verify.faults(path, manifest.read(path))}
    assert found == {
        "short": "it has 3 bytes, and 5 were written",
        "flipped": "its checksum is not that of what was written",
        "gone": "it is missing",
        "one": "it is `other`",
        "other": "it is `one`",
    }


def test_damage_of_any_bit_and_any_sector_is_seen(tmp_path):
    """A flipped bit, the sign of a number included, and sectors that are zeros, doubled or in each other's place."""
    path, content = tmp_path / "a", random.Random(5).randbytes(300_007)
    path.write_bytes(content)
    whole, seen = tensors.describe(path), []
    for bit in range(64):
        place = 8 * (bit * 571 % (len(content) // 8)) + bit // 8
        damaged = bytearray(content)
        damaged[place] ^= 1 << bit % 8
        seen.append(bytes(damaged))
    for here, there in ((0, 512), (512, 512 * 9), (512 * 256, 512 * 512), (512 * 40, 512 * 584)):
        first, second = content[here : here + 512], content[there : there + 512]
        for left, right in ((second, first), (first, first), (bytes(512), second)):
            damaged = bytearray(content)
            damaged[here : here + 512], damaged[there : there + 512] = left, right
            seen.append(bytes(damaged))
    for damaged in seen:
        path.write_bytes(damaged)
        assert tensors.describe(path) != whole
    assert len(seen) == 76


@pytest.mark.parametrize("size", [0, 1, 8, 512, 513, 131072, 1048577, 3000007])
def test_checksums_of_torch_numpy_and_python_are_one(tmp_path, monkeypatch, size):
    """What a training wrote can be verified without torch, and without NumPy."""
    (tmp_path / "a").write_bytes(random.Random(size).randbytes(size))
    found = {verify.describe(tmp_path / "a"), tensors.describe(tmp_path / "a")}
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert len(found | {verify.describe(tmp_path / "a")}) == 1


def test_newest_is_the_one_saved_last_whatever_its_step(tmp_path):
    """A run that went back to an older step goes on from there."""
    for sequence, name in enumerate(("step-00000010", "step-00000020", "step-00000015"), 1):
        checkpoint(tmp_path / name, sequence)
    (tmp_path / "step-00000030").mkdir()
    (tmp_path / ".step-00000040.0a1b2c3d.tmp").mkdir()
    assert folders.newest(tmp_path) == tmp_path / "step-00000015"
    assert folders.older(tmp_path / "step-00000015") == tmp_path / "step-00000020"
    assert folders.older(tmp_path / "step-00000010") is None
    assert [item.unfinished for item in folders.entries(tmp_path)].count(True) == 1
    assert folders.next_sequence(tmp_path) == 4


def test_pruning_keeps_the_newest_and_what_is_not_named_by_us(tmp_path):
    """`keep` counts checkpoints that are named by their step; others are the user's."""
    names = ["step-00000001", "best", "step-00000002", "step-00000003", "step-00000003-2"]
    paths = [checkpoint(tmp_path / name, sequence) for sequence, name in enumerate(names, 1)]
    gone = folders.prune(tmp_path, 2, paths[-1])
    assert [path.name.partition(".")[2].partition(".")[0] for path in gone] == ["step-00000001", "step-00000002"]
    assert sorted(item.path.name for item in folders.complete(tmp_path)) == ["best", "step-00000003", "step-00000003-2"]
    folders.sweep(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_one_that_is_to_stay_stays(tmp_path):
    """Also when its number says that it is the oldest."""
    paths = [checkpoint(tmp_path / f"step-0000000{number}", number) for number in (1, 2, 3)]
    folders.prune(tmp_path, 1, paths[0])
    assert paths[0].exists()


def test_leftovers_go_unless_somebody_writes_them(tmp_path):
    """A writer that lives holds a lock."""
    dead, alive = tmp_path / ".step-00000001.00000000.tmp", tmp_path / ".step-00000002.11111111.tmp"
    for path in (dead, alive):
        path.mkdir()
        (path / "x").touch()
    held = folders.lock(alive)
    folders.sweep(tmp_path)
    assert (dead.exists(), alive.exists()) == (False, True)
    os.close(held)
    folders.sweep(tmp_path)
    assert not alive.exists()


def test_names_that_are_taken_get_a_number(tmp_path):
    """The same step may be saved twice."""
    assert folders.free_name(tmp_path, folders.by_step(42)) == "step-00000042"
    (tmp_path / "step-00000042").mkdir()
    assert folders.free_name(tmp_path, folders.by_step(42)) == "step-00000042-2"


# --- the command ----------------------------------------------------------------------------------------------------


def test_command_lists_what_is_there(jobc_command, tmp_path):
    """Complete ones, and what is none and why."""
    checkpoint(tmp_path / "c" / "step-00000007", 1, a=b"1234")
    (tmp_path / "c" / ".step-00000009.0a1b2c3d.tmp").mkdir()
    done = jobc_command("checkpoint", "ls", str(tmp_path / "c"))
    assert done.returncode == 0
    head, unfinished, complete = done.stdout.splitlines()
    assert head.split() == ["checkpoint", "step", "epoch", "samples", "saved", "size", "by"]
    assert unfinished.split()[-2:] == ["not", "finished"]
    assert complete.split() == ["step-00000007", "1", "0", "0", "4", "B", "none,", "1", "process", "complete"]
    listed = json.loads(jobc_command("checkpoint", "ls", str(tmp_path / "c"), "--format", "json").stdout)
    assert [item["complete"] for item in listed] == [False, True]


def test_command_verifies_every_file(jobc_command, tmp_path):
    """A damaged one is named, and an older one offered; the exit code says it too."""
    checkpoint(tmp_path / "c" / "step-00000001", 1, a=b"1234")
    good = jobc_command("checkpoint", "verify", str(tmp_path / "c"))
    assert (good.returncode, good.stdout.splitlines()[-1]) == (0, f"{tmp_path / 'c'}: ok")
    bad = checkpoint(tmp_path / "c" / "step-00000002", 2, a=b"1234")
    (bad / "a").write_bytes(b"123")
    done = jobc_command("checkpoint", "verify", str(tmp_path / "c"))
    assert done.returncode == 2
    assert "error[J521]: `a` of a checkpoint is damaged: it has 3 bytes, and 4 were written" in done.stdout
    assert "the next older complete checkpoint is" in done.stdout
    results = json.loads(jobc_command("checkpoint", "verify", str(bad), "--format", "json").stdout)
    assert [item["ok"] for item in results] == [False]


def test_command_refuses_what_is_no_checkpoint(jobc_command, tmp_path):
    """One finding, exit code 2."""
    for verb in ("ls", "show", "verify"):
        done = jobc_command("checkpoint", verb, str(tmp_path / "nothing"))
        assert (done.returncode, "error[J520]" in done.stderr) == (2, True), verb
