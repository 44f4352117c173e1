"""Checks that settings of the job change what a training does, in a world of two."""

import warnings
from datetime import timedelta

import pytest
import torch
from common import Accelerator, data, job, loader, model, refuses, same
from jobc import (
    DataLoaderConfiguration,
    DDPCommunicationHookType,
    DistributedDataParallelKwargs,
    FullyShardedDataParallelPlugin,
    InitProcessGroupKwargs,
)
from torch import distributed, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader


def moved(steps=1, optimizer=torch.optim.SGD, **values):
    """How far each parameter goes with learning rate 1 in a job: the sum of the gradients that steps see."""
    with job(**values):
        accelerator = Accelerator()
        plain = model()
        before = [parameter.detach().clone() for parameter in plain.parameters()]
        ready, stepping = accelerator.prepare(plain, optimizer(plain.parameters(), lr=1.0))
        inputs = data(4 * steps * 2).tensors[0][accelerator.process_index :: 2]
        for step in range(steps):
            with accelerator.accumulate(ready):
                accelerator.backward(ready(inputs[step * 4 : step * 4 + 4]).square().sum() * 10)
                stepping.step()
                stepping.zero_grad()
        after = [
            parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter
            for parameter in ready.parameters()
        ]
        return [now.detach() - then for now, then in zip(after, before, strict=True)]


def size(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors]).norm().item()


def check_gradients_are_clipped_by_norm():
    free = moved()
    assert size(free) > 1
    for paradigm in ("ddp", "fsdp"):
        for steps in (1, 2):
            training = {"gradient_clipping": {"norm": 0.5}, "gradient_accumulation": steps}
            clipped = moved(steps, paradigm={"kind": paradigm}, training=training)
            assert abs(size(clipped) - 0.5) < 1e-4
    clipped = moved(training={"gradient_clipping": {"norm": 0.5}})
    assert same([tensor * 0.5 / size(free) for tensor in free], clipped, 1e-4)
    loose = moved(training={"gradient_clipping": {"norm": 1000.0}})
    assert same(free, loose, 1e-6)


def check_gradients_are_clipped_by_value():
    free = moved()
    for paradigm in ("ddp", "fsdp"):
        clipped = moved(paradigm={"kind": paradigm}, training={"gradient_clipping": {"value": 0.1}})
        assert same([tensor.clamp(-0.1, 0.1) for tensor in free], clipped, 1e-5)
    both = moved(training={"gradient_clipping": {"value": 0.1, "norm": 0.05}})
    assert abs(size(both) - 0.05) < 1e-5


def check_scaled_gradients_are_clipped_at_their_true_size():
    for options in ({}, {"fused": True}):
        clipped = moved(
            optimizer=lambda parameters, lr, options=options: torch.optim.SGD(parameters, lr=lr, **options),
            precision={"kind": "fp16", "initial_scale": 8.0},
            training={"gradient_clipping": {"norm": 0.5}},
        )
        assert abs(size(clipped) - 0.5) < 1e-3


def check_an_optimizer_is_clipped_by_the_newest_accelerator_alone():
    plain = model()
    optimizer = torch.optim.SGD(plain.parameters(), lr=1.0)
    with job(training={"gradient_clipping": {"norm": 1e-6}}):
        Accelerator().prepare(plain, optimizer)
    with job():
        accelerator = Accelerator()
        ready, ours = accelerator.prepare(plain, optimizer)
        before = [parameter.detach().clone() for parameter in plain.parameters()]
        accelerator.backward(ready(torch.ones(2, 4)).sum())
        ours.step()
    assert not same(plain.parameters(), before, 1e-3)


def check_gradients_of_a_closure_cannot_be_clipped():
    with job(training={"gradient_clipping": {"norm": 1.0}}):
        accelerator = Accelerator()
        plain = model()
        ready, optimizer = accelerator.prepare(plain, torch.optim.LBFGS(plain.parameters()))
        with refuses("J507", "a closure makes them"):
            optimizer.step(lambda: ready(torch.ones(1, 4)).sum())


def check_deterministic_refuses_chance():
    assert not torch.are_deterministic_algorithms_enabled()
    try:
        with job(training={"deterministic": True}):
            Accelerator()
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(mode=False)


def order(said=None, **values):
    with job(**values):
        configuration = DataLoaderConfiguration(data_seed=said)
        accelerator = Accelerator(dataloader_config=configuration)
        ready = accelerator.prepare(loader(32, 4, shuffle=True))
        return [batch["id"].tolist() for batch in ready]


def check_the_order_of_the_data_has_a_seed_of_its_own():
    torch.manual_seed(3)
    one = order(training={"seed": 1, "dataloader": {"seed": 7}})
    assert one == order(training={"seed": 2, "dataloader": {"seed": 7}})
    assert one == order(training={"seed": 7})
    assert one != order(training={"seed": 1})
    assert one == order(said=7, training={"seed": 2})
    with refuses("J503", "training.dataloader.seed"):
        order(said=8, training={"dataloader": {"seed": 7}}, explicit=["training.dataloader.seed"])


def timeout():
    backend = distributed.group.WORLD._get_backend(torch.device("cpu"))
    return backend.options._timeout.total_seconds()


def check_collectives_have_the_timeout_of_the_job():
    before = timeout()
    try:
        with job(nodes={"collective_timeout": 77.0}, explicit=["nodes.collective_timeout"]):
            Accelerator()
            assert timeout() == 77.0
            with refuses("J503", "nodes.collective_timeout"):
                Accelerator(kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(seconds=5))])
    finally:
        distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=before), distributed.group.WORLD)


def check_gradients_are_sent_as_the_job_says():
    free = moved()
    halved = moved(paradigm={"kind": "ddp", "comm_hook": "fp16"})
    assert same(free, halved, 0.02)
    assert not same(free, halved)
    with job(paradigm={"kind": "ddp", "comm_hook": "bf16"}), refuses("J510", "paradigm.comm_hook: bf16"):
        Accelerator().prepare(model())
    options = [DistributedDataParallelKwargs(comm_hook=DDPCommunicationHookType.FP16)]
    with (
        job(paradigm={"kind": "ddp", "comm_hook": "power_sgd"}, explicit=["paradigm.comm_hook"]),
        refuses("J503", "paradigm.comm_hook"),
    ):
        Accelerator(kwargs_handlers=options)


class Stack(nn.Module):
    """Two blocks in a list, and a last layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.last = nn.Linear(4, 1)

    def forward(self, inputs):
        for block in self.blocks:
            inputs = block(inputs).tanh()
        return self.last(inputs)


def prepared(**values):
    with job(**values):
        return Accelerator().prepare(Stack())


def check_models_are_wrapped_as_the_job_says():
    for field, value in (("find_unused_parameters", True), ("static_graph", True), ("gradient_as_bucket_view", True)):
        assert getattr(prepared(), field) is not value
        assert getattr(prepared(paradigm={"kind": "ddp", field: value}), field) is value
    assert prepared().bucket_bytes_cap == 25 * 2**20
    assert prepared(paradigm={"kind": "ddp", "bucket_size_mb": 3}).bucket_bytes_cap == 3 * 2**20


def check_models_are_cut_as_the_job_says():
    def units(**options):
        model = prepared(paradigm={"kind": "fsdp", **options})
        return [name for name, module in model.named_modules() if isinstance(module, FSDPModule)]

    assert units() == ["", "blocks.0", "blocks.1"]
    assert units(wrap="none") == [""]
    assert units(wrap="size", min_parameters=20) == ["", "blocks.0", "blocks.1"]
    assert units(wrap="size", min_parameters=5) == ["", "blocks.0", "blocks.1", "last"]
    assert units(wrap="size") == [""]
    assert units(wrap=["Linear"]) == ["", "blocks.0", "blocks.1", "last"]
    plugin = FullyShardedDataParallelPlugin(auto_wrap_policy="size_based_wrap", min_num_params=20)
    model = Accelerator(fsdp_plugin=plugin).prepare(Stack())
    assert [name for name, module in model.named_modules() if isinstance(module, FSDPModule)] == units()
    for reshard in (True, False):
        model = prepared(paradigm={"kind": "fsdp", "reshard_after_forward": reshard})
        model(torch.ones(1, 4))
        assert isinstance(model.blocks[0].weight, DTensor) is reshard


def check_numbers_are_those_of_the_job():
    for word, expected in (("no", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        seen = []
        model = prepared(precision={"kind": word})
        model.module.last.register_forward_hook(lambda _module, _given, output, seen=seen: seen.append(output.dtype))
        model(torch.ones(1, 4))
        assert seen == [expected]


def check_models_are_compiled_as_the_job_says():
    graphs = []

    def noting(graph, given, **options):
        graphs.append((len(given), options))
        return graph.forward

    torch._dynamo.register_backend(noting, name="noting")

    def compiled(**options):
        torch._dynamo.reset()
        graphs.clear()
        chosen = {"backend": "noting", **options}
        model = prepared(paradigm={"kind": "ddp"}, training={"compile": chosen}).module
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's compiler looks at gradients of what is no leaf
            model(torch.ones(2, 4))
            model(torch.ones(3, 4))
        return list(graphs)

    assert compiled(backend="eager") == []
    whole = compiled(dynamic=False)
    assert len(whole) == 2  # once for each size
    assert len(compiled(dynamic=True)) == 1
    assert len(compiled(regional=True, dynamic=True)) == 2  # a graph for each block
    assert compiled(mode="max-autotune")[0][1] == {"mode": "max-autotune"}
    torch._dynamo.reset()


class Broken(nn.Module):
    """A forward pass that no compiler can take as one graph."""

    def forward(self, inputs):
        torch._dynamo.graph_break()
        return inputs


def check_a_broken_graph_is_refused_where_the_job_says_so():
    for whole in (False, True):
        torch._dynamo.reset()
        with job(training={"compile": {"backend": "eager", "fullgraph": whole}}):
            model = Accelerator().prepare(Broken())
        try:
            model(torch.ones(1))
            broken = False
        except torch._dynamo.exc.Unsupported:
            broken = True
        assert broken is whole
    torch._dynamo.reset()


def rows(size=20, **dataloader):
    with job(training={"dataloader": dataloader}):
        ready = Accelerator().prepare(DataLoader(range(size), batch_size=4))
        return [len(batch) for batch in ready]


def check_batches_are_dealt_as_the_job_says():
    assert rows() == [4, 4, 4]
    assert rows(split_batches=True) == [2, 2, 2, 2, 2]
    uneven = rows(even_batches=False)
    assert len(uneven) == (3 if Accelerator().is_main_process else 2)


def check_steps_are_those_of_the_job():
    once = moved(2)
    twice = moved(2, training={"gradient_accumulation": 2})
    assert not same(once, twice, 1e-3)


def check_activations_are_computed_again():
    def passes(paradigm, *, again):
        model = prepared(paradigm={"kind": paradigm}, training={"activation_checkpointing": again})
        model(torch.ones(2, 4)).sum().backward()
        with torch.no_grad():
            assert model(torch.ones(2, 4)).shape == (2, 1)
        gradients = [parameter.grad for parameter in model.parameters()]
        return [item.full_tensor() if isinstance(item, DTensor) else item for item in gradients]

    for paradigm in ("ddp", "fsdp"):
        assert same(passes(paradigm, again=False), passes(paradigm, again=True))
    with job(training={"activation_checkpointing": True}), refuses("J508", "training.activation_checkpointing"):
        Accelerator().prepare(model())


class Counting(nn.Module):
    """A block that counts how often it computes."""

    calls = 0

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def forward(self, inputs):
        Counting.calls += 1
        return self.inner(inputs)


def check_blocks_run_twice_where_their_activations_are_not_kept():
    for again, expected in ((False, 2), (True, 4)):
        with job(training={"activation_checkpointing": again}):
            ready = Accelerator().prepare(nn.Sequential(Counting(), Counting()))
        Counting.calls = 0
        ready(torch.ones(1, 2)).sum().backward()
        assert Counting.calls == expected
    plugin = FullyShardedDataParallelPlugin(activation_checkpointing=True)
    ready = Accelerator(fsdp_plugin=plugin).prepare(nn.Sequential(Counting(), Counting()))
    Counting.calls = 0
    ready(torch.ones(1, 2)).sum().backward()
    assert Counting.calls == 4
    off = FullyShardedDataParallelPlugin(activation_checkpointing=False)
    said = {"training": {"activation_checkpointing": True}, "paradigm": {"kind": "fsdp"}}
    with (
        job(explicit=["training.activation_checkpointing"], **said),
        refuses("J503", "training.activation_checkpointing"),
    ):
        Accelerator(fsdp_plugin=off)


class Growing(nn.Module):
    """A block whose gradient needs the value that it began with."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, inputs):
        return inputs * inputs * self.scale


def check_what_blocks_begin_with_is_kept_in_memory():
    """A copy in memory is what the backward pass reads: who changes the value on the device meanwhile is harmless."""

    def gradient(*, offload):
        with job(training={"activation_checkpointing": True, "activation_offload": offload}):
            accelerator = Accelerator()
            ready = accelerator.prepare(nn.Sequential(Growing(), Growing()))
        begun = torch.full((2,), 3.0, requires_grad=True)
        kept = []
        accelerator.unwrap_model(ready)[1].register_forward_hook(lambda _block, inputs, _output: kept.append(inputs[0]))
        result = ready(begun)
        with torch.no_grad():
            kept[0].zero_()
        result.sum().backward()
        return begun.grad.tolist()

    assert gradient(offload=True) == [108.0, 108.0]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradient(offload=False)
    alone = FullyShardedDataParallelPlugin(activation_checkpointing_offload=True)
    with job(paradigm={"kind": "fsdp"}), refuses("J507", "activation_checkpointing_offload"):
        Accelerator(fsdp_plugin=alone)


def check_gradients_are_added_up_in_the_format_of_the_job():
    for word, expected in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        model = prepared(paradigm={"kind": "fsdp"}, precision={"kind": "bf16", "reduce": word})
        state = model._get_fsdp_state()
        groups = getattr(state, "_fsdp_param_groups", None) or [state._fsdp_param_group]
        assert groups[0].mp_policy.reduce_dtype is expected


def trained_on(batches, **training):
    """Two steps of a training on a loader, in a job with batches of four."""
    with job(["training.micro_batch"], training={"micro_batch": 4, **training}):
        accelerator = Accelerator()
    plain = model()
    ready, stepping, batches = accelerator.prepare(plain, torch.optim.SGD(plain.parameters(), lr=1.0), batches)
    for inputs, _ in batches:
        accelerator.backward(ready(inputs).mean())
        stepping.step()
        stepping.zero_grad()


def check_batches_have_the_size_that_the_job_says():
    trained_on(DataLoader(data(12), batch_size=4))
    trained_on(DataLoader(data(12), batch_size=8), dataloader={"split_batches": True})
    trained_on(DataLoader(data(12), batch_size=4), dataloader={"dispatch": True})
    with refuses("J531", "batches of 4 samples", "are of 6", "`batch_size=4`", "honoured.py:", "job.yaml:7:3"):
        trained_on(DataLoader(data(12), batch_size=6))
    with refuses("J531", "are of 2"):
        trained_on(DataLoader(data(12), batch_size=4), dataloader={"split_batches": True})
    with refuses("J531", "have no fixed size"):
        trained_on(DataLoader(data(12), batch_sampler=[[0, 1], [2, 3, 4], [5, 6], [7, 8, 9]]))
    with refuses("J531", "prepare the loader"):
        moved(training={"micro_batch": 4})
