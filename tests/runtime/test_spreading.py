"""Models without memory, and models spread over the memory and a disk, which compute as if they were in one place."""

import copy
import json
from pathlib import Path

import accelerate
import jobc
import pytest
import torch
from jobc import (
    Accelerator,
    FindingsError,
    cpu_offload,
    disk_offload,
    dispatch_model,
    infer_auto_device_map,
    init_empty_weights,
    init_on_device,
    load_checkpoint_and_dispatch,
    load_checkpoint_in_model,
)
from torch import nn


class Block(nn.Module):
    """Two layers around which a value is carried, and a buffer."""

    def __init__(self, width):
        super().__init__()
        self.up = nn.Linear(width, width)
        self.down = nn.Linear(width, width, bias=False)
        self.register_buffer("scale", torch.full((width,), 2.0))

    def forward(self, inputs):
        return inputs + self.down(torch.tanh(self.up(inputs))) * self.scale


class Language(nn.Module):
    """A small model of a language whose head is its table."""

    def __init__(self, width=8, blocks=3):
        super().__init__()
        self.table = nn.Embedding(16, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.mixer = nn.MultiheadAttention(width, 2, batch_first=True)
        self.memory = nn.LSTM(width, width, batch_first=True)
        self.shift = nn.Parameter(torch.ones(width))
        self.head = nn.Linear(width, 16, bias=False)
        self.head.weight = self.table.weight
        self.register_buffer("unsaved", torch.full((width,), 0.5), persistent=False)

    def forward(self, words, shift=True):
        found = self.table(words)
        for block in self.blocks:
            found = block(found)
        found = found + self.mixer(found, found, found)[0]
        found = self.memory(found)[0]
        return {"logits": self.head(found + self.shift * self.unsaved if shift else found)}


WORDS = torch.arange(10).reshape(2, 5)
MAPS = [
    {"": "disk"},
    {"": "cpu"},
    {"": "cpu", "blocks": "disk", "memory": "disk"},
    {"": "disk", "blocks.1": "cpu", "shift": "cpu", "head": "cpu"},
    {"": "cpu", "head": "disk", "mixer": "disk"},
    {"": "cpu", "blocks.0.up.weight": "disk"},
]


@pytest.fixture
def saved(tmp_path):
    """A model and the folder that it was saved to."""
    torch.manual_seed(3)
    model = Language().eval()
    Accelerator().save_model(model, tmp_path / "saved", max_shard_size="1KB")
    return model, tmp_path / "saved"


def on_meta(model):
    return {name for name, item in model.named_parameters(remove_duplicate=False) if item.is_meta}


@pytest.mark.parametrize("device_map", MAPS, ids=str)
def test_spread_model_computes_what_the_whole_one_does(saved, tmp_path, device_map):
    """Bit for bit, twice; what is on the disk has no memory between forward passes."""
    model, folder = saved
    with init_empty_weights():
        empty = Language().eval()
    assert on_meta(empty) == {name for name, _ in model.named_parameters(remove_duplicate=False)}
    ready = load_checkpoint_and_dispatch(empty, folder, device_map=device_map, offload_folder=tmp_path / "out")
    assert ready is empty
    assert ready.hf_device_map == device_map
    gone = on_meta(ready)
    assert bool(gone) is ("disk" in device_map.values())
    for _ in range(2):
        with torch.no_grad():
            assert torch.equal(ready(WORDS)["logits"], model(WORDS)["logits"])
        assert on_meta(ready) == gone
    state = ready.state_dict()
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_places_are_chosen_by_themselves(saved, tmp_path):
    """With a word for a map and too little memory a part goes to the disk, which needs a folder."""
    model, folder = saved
    budget = {"max_memory": {"cpu": 4600}, "no_split_module_classes": ["Block"]}
    with init_empty_weights():
        empty, other = Language().eval(), Language().eval()
    with pytest.raises(FindingsError, match="no folder is named"):
        load_checkpoint_and_dispatch(empty, folder, "auto", **budget)
    ready = load_checkpoint_and_dispatch(empty, folder, "auto", offload_folder=tmp_path / "out", **budget)
    assert set(ready.hf_device_map.values()) == {"cpu", "disk"}
    assert on_meta(ready)
    with torch.no_grad():
        assert torch.equal(ready(words=WORDS, shift=False)["logits"], model(WORDS, shift=False)["logits"])
    roomy = load_checkpoint_and_dispatch(other, folder, "sequential", max_memory={"cpu": "1GB"})
    assert roomy.hf_device_map == {"": "cpu"}
    assert torch.equal(roomy(WORDS)["logits"], model(WORDS)["logits"])


def test_what_a_checkpoint_lacks_does_not_come_from_an_earlier_one(saved, tmp_path):
    """A folder that was used before has values of the same names, which are not this model's."""
    _, folder = saved
    load_checkpoint_and_dispatch(Language(), folder, {"": "disk"}, offload_folder=tmp_path / "out")
    Accelerator().save_model(nn.Sequential(nn.Linear(1, 1)), tmp_path / "other")
    with init_empty_weights():
        empty = Language()
    with pytest.raises(FindingsError, match="`shift` has no values"):
        load_checkpoint_and_dispatch(empty, tmp_path / "other", {"": "disk"}, offload_folder=tmp_path / "out")


def test_weights_visit_for_the_time_of_their_forward_pass(saved, tmp_path):
    """While a block computes its weights are there, and no other block's are; also after an error they are gone."""
    model, folder = saved
    ready = load_checkpoint_and_dispatch(model, folder, {"": "disk"}, offload_folder=tmp_path / "out")
    seen = []
    ready.blocks[1].up.register_forward_pre_hook(lambda *_: seen.append(on_meta(ready)))
    ready(WORDS)
    (during,) = seen
    assert on_meta(ready) - during == {"blocks.1.up.weight", "blocks.1.up.bias", "shift"}

    def fail(*_):
        raise ValueError("boom")

    ready.blocks[1].up.register_forward_hook(fail)
    with pytest.raises(ValueError, match="boom"):
        ready(WORDS)
    assert on_meta(ready) == {name for name, _ in ready.named_parameters(remove_duplicate=False)}


def test_files_of_a_disk_are_a_checkpoint(saved, tmp_path):
    """Each tensor is a file, one for tied names; the index makes the folder a checkpoint that can be loaded."""
    model, folder = saved
    out = tmp_path / "out"
    load_checkpoint_and_dispatch(Language(), folder, {"": "disk"}, offload_folder=out, offload_buffers=True)
    weights = json.loads((out / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(weights) == set(model.state_dict())
    assert weights["head.weight"] == weights["table.weight"]
    assert {path.name for path in out.iterdir()} == {*weights.values(), "model.safetensors.index.json"}
    other = Language().eval()
    assert load_checkpoint_in_model(other, out, strict=True) == ([], [])
    assert torch.equal(other(WORDS)["logits"], model(WORDS)["logits"])


def test_model_in_memory_is_spread_and_gathered_again(saved, tmp_path):
    """A model that has its values is written; dispatched once more, it is read back first."""
    model, _ = saved
    expected = model(WORDS)["logits"].detach()
    ready = dispatch_model(model, {"": "disk"}, offload_dir=tmp_path / "out")
    twin = copy.deepcopy(ready)
    assert dispatch_model(ready, {"": "cpu"}) is model
    assert not on_meta(model)
    assert model.head.weight is model.table.weight
    for each in (model, twin):
        assert torch.equal(each(WORDS)["logits"], expected)
    assert on_meta(twin)
    one, other = copy.deepcopy(model), copy.deepcopy(model)
    assert torch.equal(disk_offload(one, tmp_path / "one")(WORDS)["logits"], expected)
    assert torch.equal(cpu_offload(other, "cpu")(WORDS)["logits"], expected)
    assert on_meta(one)


def test_offloading_in_two_steps(saved, tmp_path):
    """`load_checkpoint_in_model` writes what goes to the disk, and `dispatch_model` finds it in the folder."""
    model, folder = saved
    with init_empty_weights():
        empty = Language().eval()
    places = {"": "disk", "table": "cpu", "head": "cpu"}
    assert load_checkpoint_in_model(empty, folder, places, tmp_path / "out", dtype="float64") == ([], [])
    assert "blocks.0.up.weight" in on_meta(empty)
    assert empty.blocks[0].up.weight.dtype == torch.float64
    ready = dispatch_model(empty, places, offload_dir=tmp_path / "out")
    assert torch.allclose(ready(WORDS, shift=False)["logits"].float(), model(WORDS, shift=False)["logits"], atol=1e-6)


def test_some_modules_stay_in_single_precision(saved):
    """`keep_in_fp32_modules` names parts of names."""
    _, folder = saved
    model = Language()
    load_checkpoint_in_model(model, folder, dtype=torch.bfloat16, keep_in_fp32_modules=["up"])
    assert model.blocks[1].up.weight.dtype == torch.float32
    assert model.blocks[1].down.weight.dtype == model.shift.dtype == torch.bfloat16


def test_another_models_files_in_the_folder_disturb_nobody(saved, tmp_path):
    """A model keeps what it was given, also when another one of the same names is written to its folder."""
    model, _ = saved
    expected = model(WORDS)["logits"].detach()
    ready = dispatch_model(model, {"": "disk"}, offload_dir=tmp_path / "out")
    dispatch_model(Language(), {"": "disk"}, offload_dir=tmp_path / "out")
    assert torch.equal(ready(WORDS)["logits"], expected)


def test_classes_are_loaded_whole_where_they_say_so(tmp_path):
    """A module that uses the weights of an inner one without calling it has them with `preload_module_classes`."""

    class Sly(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(2, 2)

        def forward(self, inputs):
            return nn.functional.linear(inputs, self.inner.weight)

    model = nn.Sequential(Sly())
    expected = model(torch.ones(1, 2)).detach()
    ready = dispatch_model(model, {"": "disk"}, offload_dir=tmp_path, preload_module_classes=["Sly"])
    assert torch.equal(ready(torch.ones(1, 2)), expected)
    assert on_meta(ready)


def test_saving_a_spread_model_saves_its_values(saved, tmp_path):
    """`save_model` writes the whole model."""
    model, _ = saved
    expected = model(WORDS)["logits"].detach()
    accelerator = Accelerator()
    ready = dispatch_model(model, {"": "disk"}, offload_dir=tmp_path / "out")
    accelerator.save_model(ready, tmp_path / "again")
    other = Language().eval()
    load_checkpoint_in_model(other, tmp_path / "again", strict=True)
    assert torch.equal(other(WORDS)["logits"], expected)


def test_gradients_pass_through_what_is_offloaded(tmp_path):
    """Offloaded weights do not train; what is in the model does, also behind them."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1))
    twin = copy.deepcopy(model)
    ready = dispatch_model(model, {"": "cpu", "1": "disk"}, offload_dir=tmp_path)
    ready = Accelerator(cpu=True).prepare(ready)
    for each in (ready, twin):
        each(torch.ones(3, 2)).sum().backward()
    assert torch.equal(ready[0].weight.grad, twin[0].weight.grad)
    assert ready[1].weight.grad is None
    assert not ready[1].weight.requires_grad


def test_what_cannot_be_spread_is_refused(saved, tmp_path):
    """Findings say which tensor, and what to do."""
    model, folder = saved
    for call, words in (
        (lambda: dispatch_model(model, {"": "disk"}), "no folder is named"),
        (lambda: dispatch_model(model, {"blocks": "cpu"}), "no entry is for `table.weight`"),
        (lambda: dispatch_model(model, {"": "cpu", "block": "cpu"}), "did you mean `blocks`"),
        (lambda: dispatch_model(model, {"": 77}), "`77` is not there"),
        (lambda: dispatch_model(model, {"": "cpu"}, main_device="disk"), "no device that computes"),
        (lambda: dispatch_model(nn.Linear(1, 1, device="meta"), {"": "cpu"}), "`weight` is on the meta device"),
        (lambda: dispatch_model(nn.Linear(1, 1, device="meta"), {"": "disk"}, offload_dir=tmp_path), "has no values"),
        (lambda: load_checkpoint_and_dispatch(model, folder, "evenly"), "no way to fill devices"),
        (lambda: load_checkpoint_and_dispatch(model, folder, "auto", {"cpu": "much"}), "max_memory: `much` is no size"),
        (lambda: infer_auto_device_map(model, {"moon": 1}), "`moon` is no device"),
        (lambda: infer_auto_device_map(model, dtype="float3"), "`float3` is no type"),
    ):
        with pytest.raises(FindingsError) as raised:
            call()
        assert words in str(raised.value)
    ready = dispatch_model(nn.Linear(2, 2), {"": "disk"}, offload_dir=tmp_path / "out")
    for load in (ready.load_state_dict, lambda state: load_checkpoint_in_model(ready, tmp_path / "out")):
        with pytest.raises(FindingsError, match="are kept outside of the model"):
            load(nn.Linear(2, 2).state_dict())
    with pytest.raises(FindingsError, match=r"`weight` has shape \(2, 2\)"):
        dispatch_model(nn.Linear(3, 3, device="meta"), {"": "disk"}, offload_dir=tmp_path / "out")


def test_tensors_without_values_may_stay_so():
    """`meta` in the map leaves a part alone."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta"))
    dispatch_model(model, {"0": "meta", "1": "meta"})
    assert on_meta(model) == set(dict(model.named_parameters()))


def test_models_are_made_without_memory():
    """Parameters are on the meta device and ties hold; buffers only if asked; outside nothing has changed."""
    with init_empty_weights():
        model = Language()
    assert model.head.weight is model.table.weight
    assert model.table.weight.requires_grad
    assert model.blocks[0].scale.tolist() == [2.0] * 8
    with init_empty_weights(include_buffers=True):
        assert Language().blocks[0].scale.is_meta
        assert torch.ones(1).is_meta
    with init_on_device("cpu"):
        assert not nn.Linear(1, 1).weight.is_meta
    with pytest.raises(ValueError, match="boom"), init_empty_weights():
        raise ValueError("boom")
    assert not nn.Linear(1, 1).weight.is_meta


def spots(model, found):
    """Where each tensor of a model goes under a map."""
    return {
        name: next(found[start] for start in starts(name) if start in found)
        for name, _ in model.named_parameters(remove_duplicate=False)
    }


def starts(name):
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), -1, -1)]


BUDGETS = [
    {0: "1MB", "cpu": "1MB"},
    {0: 2000, "cpu": "1MB"},
    {0: 1500, 1: 2500, "cpu": 2000},
    {"cpu": 3000},
    {0: 0, 1: 3000, "cpu": "1MB"},
    {0: 1000, "cpu": 0},
]


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
@pytest.mark.parametrize("options", [{}, {"no_split_module_classes": ["Block"]}, {"dtype": torch.float16}], ids=str)
def test_maps_fit_into_the_budgets(budget, options):
    """No device is given more than it may hold, blocks stay whole, and every tensor has its place."""
    with init_empty_weights():
        model = Language()
    found = infer_auto_device_map(model, budget, **options)
    width = 2 if "dtype" in options else 4
    used = {}
    homes = spots(model, found)
    for item in set(model.parameters()):
        name = next(name for name, other in model.named_parameters() if other is item)
        used[homes[name]] = used.get(homes[name], 0) + item.numel() * width
    for device, size in used.items():
        assert device == "disk" or size <= jobc.runtime.saving.bytes_of(budget[device]), (found, used)
    assert homes["head.weight"] == homes["table.weight"]
    if "no_split_module_classes" in options:
        assert all(len({homes[f"blocks.{i}.{name}"] for name in ("up.weight", "down.weight")}) == 1 for i in range(3))


def test_maps_name_what_goes_to_one_place_once(capsys):
    """The whole model where it fits; else the largest modules; with `verbose` each part is printed."""
    model = Language()
    assert infer_auto_device_map(model) == {"": "cpu"} or torch.cuda.is_available()
    found = infer_auto_device_map(model, {0: 4600, "cpu": "1MB"}, ["Block"], verbose=True)
    assert found["blocks.0"] == 0
    assert found["memory"] == "cpu"
    assert "blocks.0: 0.0 MB on 0" in capsys.readouterr().out
    parts = infer_auto_device_map(model, {0: 4600, "cpu": "1MB"}, ["Block"], clean_result=False)
    assert spots(model, found) == spots(model, parts)


def test_maps_go_back_where_it_is_asked_for():
    """With `fallback_allocation` a later part takes the room that an earlier one did not fit into."""
    model = nn.Sequential(nn.Linear(30, 30), nn.Linear(2, 2))
    assert infer_auto_device_map(model, {0: 100, "cpu": "1MB"}) == {"": "cpu"}
    back = infer_auto_device_map(model, {0: 4000, "cpu": "1MB"}, fallback_allocation=True)
    assert set(back.values()) == {0} or back["1"] == 0


@pytest.mark.parametrize("budget", [{0: "1MB", 1: "1MB"}, {0: 2400, "cpu": "1MB"}, {"cpu": "1MB"}], ids=str)
def test_maps_are_those_of_accelerate_where_room_is_plenty(budget):
    """Chains of equal blocks go to the same places."""
    model = nn.Sequential(*(nn.Linear(10, 10) for _ in range(6)))
    theirs = accelerate.infer_auto_device_map(model, dict(budget))
    assert spots(model, infer_auto_device_map(model, budget)) == spots(model, theirs)


def test_gpus_are_filled_evenly():
    """`auto` gives two GPUs about as much, `balanced_low_0` spares the first one."""
    from jobc.runtime.big.fitting import Sizes, balanced, budgets_of

    model = nn.Sequential(*(nn.Linear(10, 10) for _ in range(8)))
    budgets = budgets_of({0: "1MB", 1: "1MB", "cpu": "1MB"})
    for spare, first in ((False, {0, 1, 2, 3, 4}), (True, set())):
        even = balanced(Sizes(model, None, {}), budgets, set(), spare_first=spare)
        found = infer_auto_device_map(model, {name: int(size) for name, size in even.items() if name != "disk"})
        assert {int(name.split(".")[0]) for name, spot in spots(model, found).items() if spot == 0} == first


def test_prepared_models_are_not_spread_over_what_others_use(saved, tmp_path):
    """An offloaded model computes in an Accelerator's precision."""
    model, _ = saved
    ready = dispatch_model(model, {"": "disk"}, offload_dir=Path(tmp_path / "out"))
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    ready = accelerator.prepare_model(ready, evaluation_mode=True)
    assert ready(WORDS)["logits"].dtype == torch.float32
    assert on_meta(ready)
