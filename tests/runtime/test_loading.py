"""Models as files: sharded by size, tied, in both formats, and read again."""

import json
from pathlib import Path

import pytest
import torch
from jobc import Accelerator, FindingsError, load_checkpoint_in_model
from jobc.runtime.saving import bytes_of
from safetensors import safe_open
from torch import nn
from torch.optim import SGD


class Tied(nn.Module):
    """A model whose head is its table."""

    def __init__(self, device="cpu"):
        super().__init__()
        self.table = nn.Embedding(6, 4, device=device)
        self.body = nn.Sequential(nn.Linear(4, 4, device=device), nn.Linear(4, 4, device=device))
        self.head = nn.Linear(4, 6, bias=False, device=device)
        self.head.weight = self.table.weight
        self.register_buffer("scale", torch.full((2,), 3.0, device=device))


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def equal(one, other):
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("safe", [True, False])
def test_large_model_becomes_several_files(tmp_path, safe):
    """Each file is at most of the size asked for; the index says where each name is; tied weights are read tied."""
    accelerator = Accelerator()
    model = accelerator.prepare(Tied())
    accelerator.save_model(model, tmp_path, max_shard_size="200B", safe_serialization=safe)
    stem, ending = ("model", "safetensors") if safe else ("pytorch_model", "bin")
    (index,) = tmp_path.glob("*.index.json")
    assert index.name == f"{stem}.{ending}.index.json"
    weights = json.loads(index.read_text())["weight_map"]
    files = sorted(set(weights.values()))
    assert files == [f"{stem}-{number:05d}-of-{len(files):05d}.{ending}" for number in range(1, len(files) + 1)]
    assert names(tmp_path) == sorted([*files, index.name])
    if safe:
        with safe_open(tmp_path / weights["table.weight"], "pt") as file:
            assert file.metadata()["head.weight"] == "table.weight"
    for source in (tmp_path, index):
        other = Tied()
        assert load_checkpoint_in_model(other, source, strict=True) == ([], [])
        assert equal(other, model)
        assert other.head.weight is other.table.weight


def test_files_of_an_earlier_save_go(tmp_path):
    """A folder holds one model: what an earlier save wrote in other pieces is removed, other files stay."""
    accelerator = Accelerator()
    (tmp_path / "notes.txt").touch()
    accelerator.save_model(Tied(), tmp_path, max_shard_size=100)
    accelerator.save_model(Tied(), tmp_path, "1GB")
    assert names(tmp_path) == ["model.safetensors", "notes.txt"]
    accelerator.save_model(Tied(), tmp_path, safe_serialization=False)
    assert names(tmp_path) == ["notes.txt", "pytorch_model.bin"]
    assert load_checkpoint_in_model(Tied(), tmp_path) == ([], [])


def test_loading_keeps_optimizers_and_moves_to_devices(tmp_path):
    """Parameters stay themselves when they are moved, so that an optimizer trains on."""
    accelerator = Accelerator()
    saved = Tied()
    accelerator.save_model(saved, tmp_path)
    model = Tied()
    optimizer = SGD(model.parameters(), lr=1.0)
    load_checkpoint_in_model(model, tmp_path, device_map={"": "cpu"}, dtype=torch.float64)
    assert optimizer.param_groups[0]["params"][0] is model.table.weight
    assert model.body[0].weight.dtype == model.scale.dtype == torch.float64
    assert torch.equal(model.body[0].weight, saved.body[0].weight.double())


def test_models_without_memory_are_filled(tmp_path):
    """A model on the meta device gets its tensors where the map says, the longest start of a name first; ties hold."""
    accelerator = Accelerator()
    saved = Tied()
    accelerator.save_model(saved, tmp_path, max_shard_size=100)
    model = Tied(device="meta")
    load_checkpoint_in_model(model, tmp_path, device_map={"": "cpu", "body.1": torch.device("cpu")})
    assert equal(saved, model)
    assert model.head.weight is model.table.weight
    assert model.table.weight.requires_grad


def test_what_does_not_fit_is_told_or_refused(tmp_path):
    """Names that do not match come back, or are an error with `strict`; another shape is an error always."""
    accelerator = Accelerator()
    accelerator.save_model(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), tmp_path)
    found = load_checkpoint_in_model(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)), tmp_path)
    assert (sorted(found.missing_keys), sorted(found.unexpected_keys)) == (
        ["2.bias", "2.weight"],
        ["1.bias", "1.weight"],
    )
    with pytest.raises(FindingsError, match="unexpected"):
        load_checkpoint_in_model(nn.Sequential(nn.Linear(2, 2)), tmp_path, strict=True)
    with pytest.raises(FindingsError, match=r"`0.bias` has shape \(2,\) in the checkpoint and \(3,\)"):
        load_checkpoint_in_model(nn.Sequential(nn.Linear(2, 3)), tmp_path)
    with pytest.raises(FindingsError, match="holds none of"):
        load_checkpoint_in_model(nn.Linear(1, 1), tmp_path / "..")
    with pytest.raises(FindingsError, match="there is no checkpoint"):
        load_checkpoint_in_model(nn.Linear(1, 1), tmp_path / "no.safetensors")
    for wrong, words in (
        ({"": "disk"}, "no folder is named"),
        ({"": "moon"}, "no device"),
        ({"2": "cpu"}, "no part `2`"),
        ({"0": "cpu"}, "no entry is for `1."),
    ):
        with pytest.raises(FindingsError, match=words):
            load_checkpoint_in_model(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), tmp_path, device_map=wrong)


@pytest.mark.parametrize(
    ("text", "size"),
    [("10GB", 10**10), ("1.5MB", 1_500_000), ("2GiB", 2 * 1024**3), (77, 77), ("5kb", 5000), ("12", 12)],
)
def test_sizes_are_understood(text, size):
    """Powers of 1000, or of 1024 with an i."""
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "ten", "-1", "0", "1XB", "1 0"])
def test_sizes_that_are_none_are_refused(text):
    """The finding says what a size looks like."""
    with pytest.raises(FindingsError, match="max_shard_size"):
        bytes_of(text)


def test_objects_are_saved_in_both_formats(tmp_path):
    """`save` pickles, or writes a dictionary of tensors as safetensors."""
    accelerator = Accelerator()
    accelerator.save({"a": torch.ones(2)}, tmp_path / "a.safetensors", safe_serialization=True)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.get_tensor("a").tolist() == [1.0, 1.0]
    accelerator.save({"a": 1}, str(tmp_path / "a.pt"))
    assert torch.load(tmp_path / "a.pt") == {"a": 1}
