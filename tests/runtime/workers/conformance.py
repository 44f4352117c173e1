"""Checks that hold for every strategy in a world of any size; each is made with all of them."""

import contextlib
import copy
import functools
import os
import tempfile
import warnings
from pathlib import Path

import torch
from common import Accelerator, Stream, data, job, refuses, same
from jobc import FullyShardedDataParallelPlugin
from safetensors import safe_open
from safetensors.torch import load_model
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffload, CPUOffloadPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.functional import mse_loss
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

SIZE = int(os.environ.get("WORLD_SIZE", "1"))
RANK = int(os.environ.get("RANK", "0"))
WHOLE = {"kind": "fsdp", "wrap": "none", "reshard_after_forward": False}
CUT_FINELY = {"kind": "fsdp", "wrap": ["Block", "Linear"]}
OFFLOADED = {"kind": "fsdp", "offload": True}
HYBRID = {"kind": "fsdp", "sharding": "hybrid", "replicate": 2}
STRATEGIES = [{"kind": "ddp"}, {"kind": "fsdp"}]
STRATEGIES += {
    1: [CUT_FINELY, WHOLE],
    2: [CUT_FINELY, WHOLE, OFFLOADED],
    4: [HYBRID, {**HYBRID, "offload": True}],  # what only so many processes can do; how finely is seen with fewer
}[SIZE]
CUT = [paradigm for paradigm in STRATEGIES if paradigm["kind"] == "fsdp"]


class Block(nn.Module):
    """Two layers around which a value is carried."""

    def __init__(self):
        super().__init__()
        self.up = nn.Linear(8, 8)
        self.down = nn.Linear(8, 8)

    def forward(self, inputs):
        return inputs + self.down(torch.tanh(self.up(inputs)))


def net(seed=1):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Sequential(Block(), Block(), Block()), nn.Linear(8, 1))


def accelerator_of(paradigm, explicit=(), precision="no", training=None, **keywords):
    hardware = {"kind": "cpu", "per_node": SIZE}
    blocks = {"paradigm": paradigm, "precision": {"kind": precision}, "training": training or {}}
    with job(explicit, hardware=hardware, **blocks):
        return Accelerator(**keywords)


def state_of(accelerator, model):
    """The whole state in every process."""
    state = accelerator._strategy.whole_state(model)
    return accelerator._collectives.broadcast({name: value.detach().clone() for name, value in state.items()})


def equal(state, model, tolerance=0.0):
    expected = model.state_dict()
    assert list(state) == list(expected)
    return same(state.values(), expected.values(), tolerance)


def train(paradigm, batch_size, steps=1, count=32, max_norm=None, **options):
    """The whole state after two epochs, and the norms before clipping."""
    accelerator = accelerator_of(paradigm, gradient_accumulation_steps=steps, **options)
    plain = net()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9)
    loader = DataLoader(data(count), batch_size=batch_size)
    ready, optimizer, loader = accelerator.prepare(plain, optimizer, loader)
    norms = []
    for _ in range(2):
        for inputs, targets in loader:
            with accelerator.accumulate(ready):
                accelerator.backward(mse_loss(ready(inputs), targets))
                if max_norm is not None and accelerator.sync_gradients:
                    norms.append(accelerator.clip_grad_norm_(ready.parameters(), max_norm).item())
                optimizer.step()
                optimizer.zero_grad()
    assert accelerator.unwrap_model(ready) is plain
    return state_of(accelerator, ready), norms


def train_plainly(count=32, size=16, max_norm=None):
    """The same model trained in one process on steps of so many samples, and the norms."""
    inputs, targets = data(count).tensors
    plain = net()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9)
    norms = []
    for _ in range(2):
        for start in range(0, count, size):
            optimizer.zero_grad()
            mse_loss(plain(inputs[start : start + size]), targets[start : start + size]).backward()
            if max_norm is not None:
                norms.append(nn.utils.clip_grad_norm_(plain.parameters(), max_norm).item())
            optimizer.step()
    return plain, norms


def check_every_split_equals_one_process_with_the_same_global_batch():
    expected, _ = train_plainly()
    for paradigm in STRATEGIES:
        for steps in (1, 2, 4):
            state, _ = train(paradigm, 16 // SIZE // steps, steps)
            assert equal(state, expected, 1e-6), (paradigm, steps)
        state, _ = train(paradigm, 8, 2, split_batches=True)
        assert equal(state, expected, 1e-6), paradigm


def check_the_last_partial_window_equals_one_smaller_step():
    expected, _ = train_plainly(count=40)
    for paradigm in STRATEGIES:
        state, _ = train(paradigm, 8 // SIZE, 2, count=40)
        assert equal(state, expected, 1e-6), paradigm


def check_clipping_is_by_the_norm_of_the_whole_model():
    expected, its_norms = train_plainly(max_norm=0.1)
    for paradigm in STRATEGIES:
        state, norms = train(paradigm, 8 // SIZE, 2, max_norm=0.1)
        assert max(abs(one - other) for one, other in zip(norms, its_norms, strict=True)) < 1e-5, paradigm
        assert equal(state, expected, 1e-6), paradigm


def check_values_are_clipped_everywhere():
    for paradigm in STRATEGIES:
        accelerator = accelerator_of(paradigm)
        ready = accelerator.prepare(net())
        accelerator.backward(ready(torch.ones(2, 4)).sum() * 100)
        accelerator.clip_grad_value_(ready.parameters(), 0.25)
        largest = [local(parameter.grad).abs().max() for parameter in ready.parameters() if local(parameter).numel()]
        assert max(largest).item() == 0.25


def local(tensor):
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def plain_ddp():
    model = DistributedDataParallel(net())
    return model, model, model.no_sync


def plain_fsdp(**options):
    model = net()
    for block in model[1]:
        fully_shard(block, **options)
    fully_shard(model, **options)

    @contextlib.contextmanager
    def quiet():
        model.set_requires_gradient_sync(False)
        yield
        model.set_requires_gradient_sync(True)

    return model, model, quiet


def check_training_is_bitwise_that_of_plain_torch():
    if SIZE == 1:
        return
    inputs, targets = data(32).tensors
    each = 8 // SIZE
    in_memory = functools.partial(plain_fsdp, offload_policy=CPUOffloadPolicy(pin_memory=False))
    pairs = [({"kind": "ddp"}, plain_ddp), ({"kind": "fsdp"}, plain_fsdp), (OFFLOADED, in_memory)]
    if SIZE == 4:
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
        pairs.append((HYBRID, functools.partial(plain_fsdp, mesh=mesh)))
    for paradigm, plainly in pairs:
        state, _ = train(paradigm, each, 2)
        model, plain, quiet = plainly()
        optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9)
        for _ in range(2):
            for number, start in enumerate(range(each * RANK, 32, 8)):
                with quiet() if number % 2 == 0 else contextlib.nullcontext():
                    piece = slice(start, start + each)
                    (mse_loss(model(inputs[piece]), targets[piece]) / 2).backward()
                if number % 2 == 1:
                    optimizer.step()
                    optimizer.zero_grad()
        values = [value.full_tensor() if isinstance(value, DTensor) else value for value in plain.parameters()]
        assert same(state.values(), values), paradigm


def check_evaluating_before_a_step_changes_nothing():
    def trained(paradigm, evaluate):
        accelerator = accelerator_of(paradigm)
        plain = net()
        optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9)
        ready, optimizer, loader = accelerator.prepare(plain, optimizer, DataLoader(data(32), batch_size=8 // SIZE))
        own, losses, norms = list(map(id, ready.parameters())), [], []
        for inputs, targets in loader:
            loss = mse_loss(ready(inputs), targets)
            held = list(ready.parameters()) if evaluate else ready.parameters()
            accelerator.backward(loss)
            losses.append(loss.item())
            if evaluate:
                evaluate(ready, inputs)
            norms.append(accelerator.clip_grad_norm_(held, 0.5).item())
            if evaluate:
                evaluate(ready, inputs)
            optimizer.step()
            optimizer.zero_grad()
            assert [id(parameter) for parameter in ready.parameters()] == own
        return state_of(accelerator, ready), losses, norms

    def without_gradients(model, inputs):
        own = list(map(id, model.parameters()))
        with torch.no_grad():
            model(inputs + 1)
        assert reshards is False or list(map(id, model.parameters())) == own

    def in_evaluation(model, inputs):
        model.eval()(inputs + 1)
        model.train()

    def for_nothing(model, inputs):
        model(inputs + 1)

    for paradigm in STRATEGIES:
        reshards = paradigm.get("reshard_after_forward", True)
        state, *numbers = trained(paradigm, None)
        for evaluate in (without_gradients, in_evaluation, for_nothing):
            found, *its = trained(paradigm, evaluate)
            assert its == numbers, (paradigm, evaluate)
            assert same(found.values(), state.values()), (paradigm, evaluate)


def check_an_overflow_in_one_process_skips_the_step_in_all():
    for paradigm in STRATEGIES:
        accelerator = accelerator_of(paradigm, precision="fp16")
        plain = net()
        optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
        scheduler = LambdaLR(optimizer, lambda step: 0.5**step)
        ready, optimizer, scheduler = accelerator.prepare(plain, optimizer, scheduler)
        before = state_of(accelerator, ready)
        for overflow in (True, False):
            output = ready(torch.ones(2, 4))
            assert output.dtype == torch.float32
            accelerator.backward(output.mean() * (float("inf") if overflow and RANK == SIZE - 1 else 1.0))
            norm = accelerator.clip_grad_norm_(ready.parameters(), 0.5)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            assert accelerator.optimizer_step_was_skipped is overflow, paradigm
            assert torch.isfinite(norm).item() is not overflow
            assert same(before.values(), state_of(accelerator, ready).values()) is overflow, paradigm
            assert scheduler.get_last_lr() == [0.1 if overflow else 0.1 * 0.5**SIZE]


def check_half_precision_trains_parameters_in_single():
    for paradigm in STRATEGIES:
        accelerator = accelerator_of(paradigm, precision="bf16")
        plain = net()
        seen = []
        plain[1][0].up.register_forward_hook(lambda _module, _inputs, output, seen=seen: seen.append(output.dtype))
        ready = accelerator.prepare(plain)
        output = ready(torch.ones(2, 4))
        accelerator.backward(output.sum())
        assert (output.dtype, seen) == (torch.float32, [torch.bfloat16])
        assert {parameter.dtype for parameter in ready.parameters()} == {torch.float32}
        assert {parameter.grad.dtype for parameter in ready.parameters()} == {torch.float32}


def check_pieces_are_not_saved_for_the_whole():
    with tempfile.TemporaryDirectory() as folder:
        accelerator = accelerator_of({"kind": "fsdp"})
        ready = accelerator.unwrap_model(accelerator.prepare(net()))
        if SIZE > 1:  # alone, a process has the whole
            with refuses("J504", "accelerator.get_state_dict(model)"):
                accelerator.save(ready.state_dict(), Path(folder, "model.bin"))
        accelerator.save(accelerator.get_state_dict(ready), Path(folder, "model.bin"))


class Tied(nn.Module):
    """Two names for one tensor, and a buffer."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(6, 4)
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.table.weight
        self.register_buffer("seen", torch.tensor([RANK, 1.0]))

    def forward(self, tokens):
        hidden = self.table(tokens)
        for block in self.blocks:
            hidden = block(hidden)
        return self.head(hidden)


def check_a_saved_model_is_whole_and_plain():
    for paradigm in ({"kind": "ddp"}, {"kind": "fsdp"}, WHOLE):
        accelerator = accelerator_of(paradigm)
        path = tempfile.mkdtemp() if accelerator.is_main_process else None
        folder = Path(accelerator._collectives.broadcast(path))
        torch.manual_seed(RANK)  # all processes have what the first one had
        ready = accelerator.prepare(Tied())
        accelerator.save_model(ready, folder)
        with safe_open(folder / "model.safetensors", "pt") as file:
            assert len(file.keys()) == 6
        loaded = Tied()
        load_model(loaded, folder / "model.safetensors")
        assert loaded.head.weight is loaded.table.weight
        assert loaded.seen.tolist() == [0.0, 1.0]
        tokens = torch.tensor([1, 5])
        assert torch.allclose(loaded(tokens), ready(tokens), atol=1e-6)
        torch.manual_seed(77)
        other = Tied()
        other.seen.zero_()
        accelerator.unwrap_model(ready).load_state_dict(other.state_dict())
        assert torch.allclose(other(tokens), ready(tokens), atol=1e-6)
        assert equal(state_of(accelerator, ready), other)


def check_optimizers_follow_the_parameters_in_any_order():
    expected, _ = train_plainly(size=8)
    for paradigm in CUT:
        for order in range(4):
            accelerator = accelerator_of(paradigm)
            plain = net()
            optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9)
            if order == 0:
                optimizer, ready = accelerator.prepare(optimizer, plain)
            elif order == 1:
                ready = accelerator.prepare(plain)
                optimizer = accelerator.prepare(optimizer)
            elif order == 2:
                optimizer = accelerator.prepare(optimizer)
                ready = accelerator.prepare(plain)
            else:
                ready = accelerator.prepare(plain)
                optimizer = accelerator.prepare(torch.optim.SGD(ready.parameters(), lr=0.05, momentum=0.9))
            for inputs, targets in accelerator.prepare(DataLoader(data(32), batch_size=8 // SIZE)):
                accelerator.backward(mse_loss(ready(inputs), targets))
                optimizer.step()
                optimizer.zero_grad()
            once = state_of(accelerator, ready)
            for inputs, targets in accelerator.prepare(DataLoader(data(32), batch_size=8 // SIZE)):
                accelerator.backward(mse_loss(ready(inputs), targets))
                optimizer.step()
                optimizer.zero_grad()
            assert not equal(once, expected, 1e-6)
            assert equal(state_of(accelerator, ready), expected, 1e-6), (paradigm, order)


def check_an_optimizers_state_is_cut_with_its_parameters():
    inputs, targets = data(8).tensors
    plain = net()
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.05)
    for number in range(3):
        if number == 1:
            accelerator = accelerator_of({"kind": "fsdp"})
            cut = net()
            cut.load_state_dict(plain.state_dict())
            other = torch.optim.AdamW(cut.parameters(), lr=0.05)
            other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            cut, other = accelerator.prepare(cut, other)
        mse_loss(plain(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
        if number > 0:
            accelerator.backward(mse_loss(cut(inputs), targets))
            other.step()
            other.zero_grad()
    assert equal(state_of(accelerator, cut), plain, 1e-6)


def check_what_does_not_train_together_is_refused():
    for paradigm in STRATEGIES if SIZE > 1 else ():
        loose = nn.Linear(4, 1)
        accelerator = accelerator_of(paradigm)
        with refuses("J509", "no model was prepared"):
            accelerator.backward(loose(torch.ones(1, 4)).sum())
        accelerator = accelerator_of(paradigm)
        ready, _ = accelerator.prepare(net(), torch.optim.SGD(loose.parameters(), lr=0.1))
        with refuses("J509", "2 of its 2 parameters apart"):
            accelerator.backward(ready(torch.ones(1, 4)).sum())
    for paradigm in CUT if SIZE > 1 else ():
        accelerator = accelerator_of(paradigm)
        plain = net()
        optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
        ready = accelerator.prepare(plain)
        with refuses("J509", "a SGD holds parameters that the model had before"):
            accelerator.backward(ready(torch.ones(1, 4)).sum())
        del optimizer
        accelerator.backward(ready(torch.ones(1, 4)).sum())


def check_classes_to_wrap_are_checked_against_the_model():
    if SIZE == 1:
        return
    accelerator = accelerator_of({"kind": "fsdp", "wrap": ["Blok", "Attention"]})
    with refuses("J508", "`Blok`, `Attention`", "did you mean `Block`?", "Sequential, Linear, Block"):
        accelerator.prepare(net())
    several = accelerator_of({"kind": "fsdp", "wrap": ["Block", "Attention"]})
    assert sum(type(module).__name__ == "FSDPBlock" for module in several.prepare(net()).modules()) == 3
    with refuses("J508", "no module of the Linear"):
        several.prepare(nn.Linear(1, 1))
    accelerator = accelerator_of({"kind": "fsdp", "wrap": ["Embedding"]})
    with refuses("J508", "`head.weight` shares its tensor"):
        accelerator.prepare(Tied())
    wrapped = accelerator_of({"kind": "fsdp"}).prepare(net())
    assert [type(module).__name__ for module in wrapped.modules() if type(module).__name__.startswith("FSDP")] == [
        "FSDPSequential",
        "FSDPBlock",
        "FSDPBlock",
        "FSDPBlock",
    ]


def check_streams_of_any_length_end_together():
    for paradigm in STRATEGIES:
        for count in (1, 3, 8):
            accelerator = accelerator_of(paradigm)
            ready, loader = accelerator.prepare(net(), DataLoader(Stream(count), batch_size=2))
            steps = 0
            for batch in loader:
                accelerator.backward(ready(batch.expand(-1, 4)).sum())
                steps += 1
            assert steps == -(-count // (2 * SIZE))


def check_processes_that_need_each_other_take_equally_many_batches():
    for paradigm in CUT if SIZE > 1 else ():
        with refuses("J507", "even_batches", "each needs all"):
            accelerator_of(paradigm, even_batches=False)
        accelerator_of({"kind": "ddp"}, even_batches=False)


def check_a_model_without_gradients_can_be_evaluated():
    for paradigm in STRATEGIES:
        frozen = net().requires_grad_(requires_grad=False)
        expected = net()(torch.ones(1, 4))
        assert torch.allclose(accelerator_of(paradigm).prepare(frozen)(torch.ones(1, 4)), expected, atol=1e-6)


def ragged(count, sizes):
    """Batches of these sizes in turn."""
    batches, start = [], 0
    for number in range(count):
        size = sizes[number % len(sizes)]
        batches.append(list(range(start, start + size)))
        start += size
    return batches


def check_batches_of_any_size_weigh_what_they_hold():
    # 8 batches of 1, 2, 3, 2, ... samples are the same steps as all samples of each window at once.
    batches = ragged(8 * SIZE, [1, 2, 3, 2])
    inputs, targets = data(16 * SIZE).tensors
    for steps in (1, 2, 3):
        plain = net()
        optimizer = torch.optim.SGD(plain.parameters(), lr=0.05)
        for start in range(0, len(batches), steps * SIZE):
            window = [index for batch in batches[start : start + steps * SIZE] for index in batch]
            mse_loss(plain(inputs[window]), targets[window]).backward()
            optimizer.step()
            optimizer.zero_grad()
        for paradigm in STRATEGIES:
            accelerator = accelerator_of(paradigm, gradient_accumulation_steps=steps)
            own = net()
            ready, optimizer, loader = accelerator.prepare(
                own,
                torch.optim.SGD(own.parameters(), lr=0.05),
                DataLoader(data(16 * SIZE), batch_sampler=batches),
            )
            for some, wanted in loader:
                with accelerator.accumulate(ready):
                    accelerator.backward(mse_loss(ready(some), wanted))
                    optimizer.step()
                    optimizer.zero_grad()
            assert equal(state_of(accelerator, ready), plain, 1e-6), (paradigm, steps)


def check_tokens_weigh_the_same_in_every_split():
    # Sample number i has i % 5 real tokens of 4: a loss is the mean over those of its batch.
    inputs, targets = data(40).tensors
    real = (torch.arange(40)[:, None] % 5 > torch.arange(4)).float()

    def loss_of(model, piece):
        errors = (model(inputs[piece]) - targets[piece]) ** 2 * real[piece]
        return errors.sum() / real[piece].sum().clamp(min=1), int(real[piece].sum())

    def trained(paradigm, each, steps):
        accelerator = accelerator_of(paradigm, gradient_accumulation_steps=steps)
        own = net()
        ready, optimizer, loader = accelerator.prepare(
            own, torch.optim.SGD(own.parameters(), lr=0.05), DataLoader(range(40), batch_size=each)
        )
        for piece in loader:
            with accelerator.accumulate(ready):
                loss, tokens = loss_of(ready, piece)
                accelerator.backward(loss, tokens=tokens)
                optimizer.step()
                optimizer.zero_grad()
        return state_of(accelerator, ready)

    plain = net()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05)
    for start in range(0, 40, 16):
        loss_of(plain, slice(start, start + 16))[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    for paradigm in STRATEGIES:
        for each, steps in ((8 // SIZE, 2), (4 // SIZE, 4)):
            assert equal(trained(paradigm, each, steps), plain, 1e-6), (paradigm, steps)


def check_tokens_are_counted_for_every_loss_or_for_none():
    def line_of(**options):
        accelerator = accelerator_of({"kind": "ddp"}, **options)
        line = accelerator.prepare(nn.Linear(1, 1))
        return accelerator, lambda: line(torch.ones(1, 1)).sum()

    accelerator, loss = line_of(training={"loss": "mean_batch"}, explicit=["training.loss"])
    with refuses("J503", "`training.loss: mean_batch`"):
        accelerator.backward(loss(), tokens=3)
    accelerator, loss = line_of(training={"loss": "mean_token"}, explicit=["training.loss"])
    with refuses("J507", "add `tokens=`"):
        accelerator.backward(loss())
    accelerator, loss = line_of(gradient_accumulation_steps=2)
    with refuses("J507", "within `accumulate`"):
        accelerator.backward(loss(), tokens=3)
    with accelerator.accumulate():
        accelerator.backward(loss(), tokens=3)
        with refuses("J507", "4 after 3"):
            accelerator.backward(loss(), tokens=4)


def check_models_are_compiled_in_place():
    warnings.filterwarnings("ignore", "The .grad attribute of a Tensor")  # torch's compiler looks at whole parameters
    inputs = data(8).tensors[0]
    expected = net()(inputs)
    for paradigm in STRATEGIES:
        whole = {"fullgraph": paradigm["kind"] == "ddp"}  # fully_shard's own hooks are outside of every graph
        for options in ({"regional": True, **whole}, {"dynamic": False}):
            compiled = {"backend": "aot_eager", **options}
            accelerator = accelerator_of(paradigm, training={"compile": compiled}, precision="no")
            plain = net()
            names = list(plain.state_dict())
            ready, optimizer = accelerator.prepare(plain, torch.optim.SGD(plain.parameters(), lr=0.05))
            assert torch.allclose(ready(inputs), expected, atol=1e-6), (paradigm, options)
            accelerator.backward(ready(inputs).sum())
            optimizer.step()
            assert list(state_of(accelerator, ready)) == names
            assert accelerator.unwrap_model(ready) is plain
            module = plain[1][0] if "regional" in options else plain
            assert module._compiled_call_impl is not None
    accelerator = accelerator_of({"kind": "ddp"}, training={"compile": {"backend": "eager", "regional": True}})
    with refuses("J511", "the Linear has none"):
        accelerator.prepare(nn.Linear(1, 1))


def check_groups_each_hold_the_whole_model():
    if SIZE != 4:
        return
    accelerator = accelerator_of(HYBRID)
    ready = accelerator.prepare(net())
    pieces = [None] * SIZE
    distributed.all_gather_object(pieces, local(ready[0].weight).detach())
    assert all(torch.equal(pieces[rank], pieces[(rank + 2) % 4]) for rank in range(SIZE))
    assert same([torch.cat(pieces[:2])], [net()[0].weight])
    assert accelerator._strategy.layout() == ("fsdp", {"replicate": 2, "shard": 2})
    with refuses("J327", "4 processes"):
        accelerator_of({**HYBRID, "replicate": 3})
    with refuses("J327", "1 group"):  # one for each node, and this is one
        Accelerator(fsdp_plugin=FullyShardedDataParallelPlugin(sharding_strategy="HYBRID_SHARD"))


def check_optimizers_that_step_on_gpus_only_are_refused_where_parameters_are_in_memory():
    if SIZE == 1:
        return
    accelerator = accelerator_of(OFFLOADED)
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), capturable=True)
    with refuses("J532", "Adam with `capturable=True`", "conformance.py:"):
        accelerator.prepare(model, optimizer)
    del model, optimizer
    for given, expected in (
        (True, True),
        (CPUOffloadPolicy(), True),
        (CPUOffload(True), True),
        (OffloadPolicy(), False),
    ):
        plugin = FullyShardedDataParallelPlugin(cpu_offload=given)
        assert Accelerator(fsdp_plugin=plugin)._strategy.options.offload is expected
    accelerator, model = accelerator_of(OFFLOADED), net()
    ready, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), fused=True))
    accelerator.backward(ready(torch.ones(2, 4)).sum())
    optimizer.step()


@contextlib.contextmanager
def shared_folder(accelerator):
    """A folder of all processes."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(accelerator._collectives.broadcast(folder))
        accelerator.wait_for_everyone()


def check_state_of_any_way_of_cutting_goes_on_in_any_other():
    def steps(accelerator, ready, optimizer, count):
        for step in range(count):
            accelerator.backward(ready(torch.ones(2, 4) * (step + RANK)).sum())
            optimizer.step()
            optimizer.zero_grad()

    def begun(paradigm):
        accelerator, model = accelerator_of(paradigm), net()
        return accelerator, *accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=0.1))

    for paradigm, other in zip(STRATEGIES, [*STRATEGIES[1:], STRATEGIES[0]], strict=True):
        accelerator, ready, optimizer = begun(paradigm)
        steps(accelerator, ready, optimizer, 2)
        with shared_folder(accelerator) as folder:
            accelerator.save_state(folder / "kept")
            steps(accelerator, ready, optimizer, 1)
            expected = state_of(accelerator, ready)
            for way, tolerance in ((paradigm, 0.0), (other, 1e-6)):
                accelerator, ready, optimizer = begun(way)
                accelerator.load_state(folder / "kept")
                devices = {item.device.type for state in optimizer.optimizer.state.values() for item in state.values()}
                assert devices == {"cpu"}
                steps(accelerator, ready, optimizer, 1)
                assert same(state_of(accelerator, ready).values(), expected.values(), tolerance), (paradigm, way)


def check_modules_that_are_left_out_stay_whole():
    if SIZE == 1:
        return
    for paradigm in CUT:
        accelerator = accelerator_of({**paradigm, "ignored": ["1.0", "1.?.up"]})
        model = net(seed=1 + RANK)
        for module in (model[1][0], *(block.up for block in model[1])):
            module.requires_grad_(requires_grad=False)
        before = state_of(accelerator, model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        ready, optimizer = accelerator.prepare(model, optimizer)
        left = [name for name, item in ready.named_parameters() if not isinstance(item, DTensor)]
        assert left == [
            *("1.0.up.weight", "1.0.up.bias", "1.0.down.weight", "1.0.down.bias"),
            *("1.1.up.weight", "1.1.up.bias", "1.2.up.weight", "1.2.up.bias"),
        ]
        accelerator.backward(ready(torch.ones(2, 4)).sum())
        accelerator.clip_grad_norm_(ready.parameters(), 1.0)
        optimizer.step()
        after = state_of(accelerator, ready)
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved == set(before) - set(left)
        with shared_folder(accelerator) as folder:
            accelerator.save_state(folder / "kept")
            optimizer.zero_grad()
            accelerator.backward(ready(torch.ones(2, 4)).sum())
            optimizer.step()
            accelerator.load_state(folder / "kept")
            assert same(state_of(accelerator, ready).values(), after.values())
        with refuses("J533", "`1.1.up`", "requires_grad_(False)"):
            accelerator_of({**paradigm, "ignored": ["1.1.up"]}).prepare(net())
        with refuses("J508", "`1.1.upp`", "did you mean `1.1.up`"):
            accelerator_of({**paradigm, "ignored": ["1.1.upp"]}).prepare(net())
