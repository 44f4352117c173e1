"""What the constructor takes: each argument works, or is a finding that says what to do."""

import copy
from datetime import timedelta

import pytest
import torch
from jobc import (
    Accelerator,
    AutocastKwargs,
    DataLoaderConfiguration,
    DDPCommunicationHookType,
    DistributedDataParallelKwargs,
    DistributedType,
    FindingsError,
    FullyShardedDataParallelPlugin,
    GradientAccumulationPlugin,
    GradScalerKwargs,
    InitProcessGroupKwargs,
    ProjectConfiguration,
    TorchDynamoPlugin,
    set_seed,
    skip_first_batches,
)
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset

ONE = {"hardware": {"kind": "cpu"}, "paradigm": {"kind": "none"}}


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"log_with": "tensorboard"}, "trackers are not there yet"),
        ({"rng_types": ["xla"]}, "there is no `xla` generator"),
        ({"deepspeed_plugin": object()}, "jobc does not have this paradigm yet"),
        ({"deepspeed_plugins": {"a": object()}}, "jobc does not have this paradigm yet"),
        ({"megatron_lm_plugin": object()}, "jobc does not have this paradigm yet"),
        ({"torch_tp_plugin": object()}, "jobc does not have this paradigm yet"),
        ({"parallelism_config": object()}, "jobc does not have this paradigm yet"),
        ({"kwargs_handlers": [object()]}, "`object` is not one that it takes"),
        ({"kwargs_handlers": [AutocastKwargs(), AutocastKwargs()]}, "was given twice"),
        ({"kwargs_handlers": [GradScalerKwargs(growth_factor=3.0)]}, "no effect with precision `no`"),
        ({"kwargs_handlers": [GradScalerKwargs(enabled=False)]}, "which need no loss scale"),
        ({"kwargs_handlers": [GradScalerKwargs(growth_factor=0.5)], "mixed_precision": "fp16"}, "growth_factor"),
        ({"kwargs_handlers": [GradScalerKwargs(backoff_factor=1.5)], "mixed_precision": "fp16"}, "backoff_factor"),
        ({"kwargs_handlers": [GradScalerKwargs(init_scale=1.0)]}, "no effect with precision `no`"),
        ({"kwargs_handlers": [GradScalerKwargs(init_scale=-1.0)], "mixed_precision": "fp16"}, "initial_scale"),
        ({"kwargs_handlers": [DistributedDataParallelKwargs(dim=1)]}, "`DistributedDataParallelKwargs(dim=1)`"),
        ({"kwargs_handlers": [InitProcessGroupKwargs(init_method="tcp://a:1")]}, "leave it to the launcher"),
        ({"project_config": ProjectConfiguration(save_on_each_node=True)}, "copy what the first process saved"),
        ({"project_config": ProjectConfiguration("a"), "project_dir": "b"}, "say it in one place"),
        (
            {"gradient_accumulation_plugin": GradientAccumulationPlugin(num_steps=2), "gradient_accumulation_steps": 4},
            "contradicts `2` of `gradient_accumulation_plugin`",
        ),
        ({"fsdp_plugin": FullyShardedDataParallelPlugin(fsdp_version=1)}, "use 2"),
        ({"fsdp_plugin": FullyShardedDataParallelPlugin(sharding_strategy="NO_SHARD")}, "`paradigm=ddp` shards nothing"),
        ({"fsdp_plugin": FullyShardedDataParallelPlugin(auto_wrap_policy="sizes")}, "transformer_based_wrap"),
        ({"fsdp_plugin": FullyShardedDataParallelPlugin(min_num_params=5)}, "size_based_wrap"),
        ({"fsdp_plugin": FullyShardedDataParallelPlugin(ignored_modules="a.*")}, "`paradigm.ignored`"),
        ({"dynamo_plugin": TorchDynamoPlugin(backend="eager", options={"a": 1})}, "`options` cannot be honoured"),
        ({"dynamo_plugin": TorchDynamoPlugin(backend="eager", mode="fast")}, "mode"),
        ({"dynamo_plugin": TorchDynamoPlugin(), "dynamo_backend": "eager"}, "there is a `dynamo_plugin` too"),
        ({"kwargs_handlers": AutocastKwargs()}, "write `kwargs_handlers=[...]`"),
        ({"rng_types": "torch"}, "takes a list, and was given a `str`"),
        ({"dataloader_config": {"split_batches": True}}, "give it a DataLoaderConfiguration"),
        ({"project_config": "runs"}, "give it a ProjectConfiguration"),
        ({"project_dir": 3}, "takes a str, and was given a `int`"),
        ({"cpu": "no"}, "cpu: it takes a bool"),
        ({"step_scheduler_with_optimizer": "no"}, "step_scheduler_with_optimizer: it takes a bool"),
        ({"project_config": ProjectConfiguration(total_limit=0)}, "use 1 or more"),
    ],
)  # fmt: skip
def test_argument_that_cannot_be_honoured_is_a_finding(keywords, words):
    """Nothing is ignored: the finding names the argument and what to do instead."""
    with pytest.raises(FindingsError) as raised:
        Accelerator(**keywords)
    assert [item.code for item in raised.value.findings] == ["J507"]
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: set_seed(-1), "`-1` is no seed"),
        (lambda: set_seed("42"), "`'42'` is no seed"),
        (lambda: skip_first_batches(DataLoader([1, 2]), 1.5), "`1.5` is no number of batches"),
        (lambda: Accelerator().split_between_processes(5).__enter__(), "was given a `int`"),
    ],
)
def test_impossible_value_is_a_finding_that_shows_the_call(call, words):
    """Of functions too; also where the call goes through a context of Python's library."""
    with pytest.raises(FindingsError) as raised:
        call()
    [found] = raised.value.findings
    assert words in found.cause
    assert found.place.source == __file__


def test_compiler_that_torch_does_not_know_is_a_finding():
    """When the model is prepared, with the nearest one that there is."""
    with pytest.raises(FindingsError, match=r"J511.*no compiler `aot_eagr`") as raised:
        Accelerator(dynamo_backend="aot_eagr").prepare(nn.Linear(1, 1))
    assert "did you mean `aot_eager`?" in str(raised.value)


def test_refusals_are_said_at_once():
    """Two arguments that cannot be honoured are two findings of one error."""
    with pytest.raises(FindingsError) as raised:
        Accelerator(log_with="wandb", rng_types=["npu"])
    assert len(raised.value.findings) == 2


def test_arguments_that_change_nothing_are_taken():
    """What says that things are as they are is no error."""
    accelerator = Accelerator(
        True,
        False,
        "no",
        1,
        True,
        DataLoaderConfiguration(use_seedable_sampler=True, non_blocking=True, use_stateful_dataloader=True),
        rng_types=["generator", "torch", "cuda"],
        log_with=None,
        dynamo_backend="no",
        gradient_accumulation_plugin=GradientAccumulationPlugin(adjust_scheduler=False),
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=True, comm_hook=DDPCommunicationHookType.FP16),
            InitProcessGroupKwargs(timeout=timedelta(seconds=60)),
        ],
    )
    assert accelerator.distributed_type == DistributedType.NO
    assert not accelerator.use_distributed
    assert accelerator.backend is None


def test_project_folders_are_kept():
    """A script reads where its files go; logs go there too unless it says otherwise."""
    accelerator = Accelerator(project_dir="out")
    assert (accelerator.project_dir, accelerator.logging_dir) == ("out", "out")
    config = ProjectConfiguration(project_dir="out", logging_dir="logs")
    assert Accelerator(project_config=config).logging_dir == "logs"
    assert Accelerator().project_dir is None


def test_state_says_who_and_how():
    """`accelerator.state` prints the world and the precision."""
    text = str(Accelerator(mixed_precision="bf16", cpu=True).state)
    assert "Num processes: 1" in text
    assert "Device: cpu" in text
    assert "Mixed precision type: bf16" in text


def test_models_stay_where_they_are_without_placement():
    """A model on another device is moved by `prepare` unless the code places models itself."""
    for accelerator, placed in ((Accelerator(device_placement=False), None), (Accelerator(), [False])):
        model = nn.Linear(2, 2, device="meta")
        assert accelerator.prepare(model, device_placement=placed).weight.is_meta
    assert Accelerator().prepare_model(nn.Linear(2, 2, device="meta"), device_placement=False).weight.is_meta
    with pytest.raises(NotImplementedError, match="meta tensor"):
        Accelerator().prepare(nn.Linear(2, 2, device="meta"))
    with pytest.raises(FindingsError, match="2 entries for 1 object"):
        Accelerator().prepare(nn.Linear(2, 2), device_placement=[True, False])


def test_objects_are_prepared_one_at_a_time_too():
    """The methods for one object do what `prepare` does."""
    accelerator = Accelerator(mixed_precision="bf16", cpu=True)
    model = accelerator.prepare_model(nn.Linear(1, 1))
    frozen = accelerator.prepare_model(nn.Linear(1, 1), evaluation_mode=True)
    optimizer = accelerator.prepare_optimizer(SGD(model.parameters(), lr=1.0))
    scheduler = accelerator.prepare_scheduler(torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5))
    loader = accelerator.prepare_data_loader(DataLoader(TensorDataset(torch.ones(4, 1)), batch_size=2))
    for (batch,) in loader:
        accelerator.backward(model(batch).sum() + frozen(batch).sum())
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    assert scheduler.get_last_lr() == [0.25]
    assert accelerator.unwrap_model(frozen, keep_fp32_wrapper=False)(batch).dtype == torch.float32
    assert "forward" not in vars(frozen)


def windows(**plugin):
    """Whether each of six batches in two epochs of three closes a window of two."""
    accelerator = Accelerator(gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=2, **plugin))
    model, loader = accelerator.prepare(nn.Linear(1, 1), DataLoader(range(3), batch_size=1))
    found = []
    for _ in range(2):
        for _ in loader:
            with accelerator.accumulate(model):
                found.append(accelerator.sync_gradients)
    return found


def test_windows_end_with_the_data_or_go_on():
    """`sync_with_dataloader=False` lets a window go on in the next epoch."""
    assert windows() == [False, True, True] * 2
    assert windows(sync_with_dataloader=False) == [False, True] * 3


def test_autocast_options_reach_models_and_contexts():
    """`enabled=False` computes in single precision, in prepared models and in one context."""
    accelerator = Accelerator(mixed_precision="bf16", cpu=True, kwargs_handlers=[AutocastKwargs(enabled=False)])
    model = accelerator.prepare(nn.Linear(2, 2))
    seen = []
    model.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    model(torch.ones(1, 2))
    assert seen == [torch.float32]
    with accelerator.autocast(AutocastKwargs(enabled=True)):
        assert model.weight.mm(model.weight).dtype == torch.bfloat16


def test_loss_scale_takes_its_options():
    """The first scale is the one given."""
    handlers = [GradScalerKwargs(init_scale=8.0, growth_interval=1)]
    accelerator = Accelerator(mixed_precision="fp16", cpu=True, kwargs_handlers=handlers)
    model = accelerator.prepare(nn.Linear(1, 1, bias=False))
    accelerator.backward(model(torch.ones(1, 1)).sum())
    assert model.weight.grad.item() == 8.0


def scales(options, overflows):
    """What the loss was multiplied by in each step, here and by torch's own scaler."""
    accelerator = Accelerator(mixed_precision="fp16", cpu=True, kwargs_handlers=[GradScalerKwargs(**options)])
    model = nn.Linear(1, 1, bias=False)
    model, optimizer = accelerator.prepare(model, SGD(model.parameters(), lr=0.0))
    plain = nn.Linear(1, 1, bias=False)
    own, scaler = SGD(plain.parameters(), lr=0.0), torch.amp.GradScaler("cpu", **options)
    found = []
    for overflow in overflows:
        factor = float("inf") if overflow else 1.0
        accelerator.backward(model(torch.ones(1, 1)).sum())
        scaler.scale(plain(torch.ones(1, 1)).sum()).backward()
        found.append((model.weight.grad.item(), plain.weight.grad.item()))
        for weight in (model.weight, plain.weight):
            weight.grad *= factor
        optimizer.step()
        scaler.step(own)
        scaler.update()
        optimizer.zero_grad()
        own.zero_grad()
    return found


def test_loss_scale_changes_by_the_factors_given():
    """It grows and shrinks as torch.amp.GradScaler's does, step by step."""
    options = {"init_scale": 8.0, "growth_factor": 3.0, "backoff_factor": 0.25, "growth_interval": 2}
    found = scales(options, [False, False, False, True, False])
    assert [ours for ours, _ in found] == [torchs for _, torchs in found] == [8.0, 8.0, 24.0, 24.0, 6.0]


def test_loss_scale_changes_as_the_job_says(monkeypatch, job):
    """The document's factors are the same ones."""
    precision = {"kind": "fp16", "initial_scale": 8.0, "growth_interval": 1, "growth_factor": 4.0}
    monkeypatch.setenv("JOBC_SPEC", str(job({**ONE, "precision": precision}, ["precision"])))
    accelerator = Accelerator()
    model = nn.Linear(1, 1, bias=False)
    model, optimizer = accelerator.prepare(model, SGD(model.parameters(), lr=0.0))
    for expected in (8.0, 32.0, 128.0):
        accelerator.backward(model(torch.ones(1, 1)).sum())
        assert model.weight.grad.item() == expected
        optimizer.step()
        optimizer.zero_grad()


def test_seed_of_the_data_is_apart():
    """`data_seed` decides the order of the data and nothing else."""
    orders = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        config = DataLoaderConfiguration(data_seed=5)
        loader = Accelerator(dataloader_config=config).prepare(DataLoader(range(30), batch_size=30, shuffle=True))
        orders.append(next(iter(loader)).tolist())
    assert orders[0] == orders[1] != sorted(orders[0])


class Double(nn.Module):
    """A model with a layer in it."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def forward(self, inputs):
        return self.inner(inputs) * 2


def test_models_are_compiled_with_the_backend_given():
    """`dynamo_backend` compiles in place; `no` does not."""
    seen = []

    def watching(graph, _inputs):
        seen.append(graph)
        return graph.forward

    torch._dynamo.register_backend(watching, name="watching")
    for keywords, count in (({"dynamo_backend": "no"}, 0), ({"dynamo_backend": "WATCHING"}, 1)):
        model = Accelerator(**keywords).prepare(Double())
        model(torch.ones(1, 2))
        assert len(seen) == count
        assert set(model.state_dict()) == {"inner.weight", "inner.bias"}


GRAPHS = []


@pytest.fixture(scope="module", autouse=True)
def _counting():
    """A compiler that only notes what it is given."""

    def counting(graph, _inputs):
        GRAPHS.append(graph)
        return graph.forward

    torch._dynamo.register_backend(counting, name="counting")


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize(
    "make", [Double, lambda: nn.Linear(2, 2), lambda: nn.Sequential(nn.Linear(2, 2), nn.Tanh()), lambda: Named(2, 2)]
)
def test_models_of_torchs_own_classes_are_compiled_too(make, precision):
    """A bare layer or a Sequential is compiled as a class of the user's is, in place, and trains."""
    torch._dynamo.reset()
    GRAPHS.clear()
    accelerator = Accelerator(cpu=True, mixed_precision=precision, dynamo_backend="counting")
    plain = make()
    model = accelerator.prepare(plain)
    expected = copy.deepcopy(plain)(torch.ones(1, 2))
    assert torch.equal(model(torch.ones(1, 2)), expected)
    assert len(GRAPHS) == 1
    accelerator.backward(model(torch.ones(1, 2)).sum())
    assert len(GRAPHS) == 1
    assert all(parameter.grad is not None for parameter in model.parameters())


class Named(nn.Linear):
    """A class of the user's with torch's own forward pass."""


def test_plugin_that_contradicts_the_job_is_refused(monkeypatch, job):
    """Plugins are keywords too: the finding names the setting and its place."""
    precision = {"kind": "fp16", "initial_scale": 4.0}
    monkeypatch.setenv("JOBC_SPEC", str(job({**ONE, "precision": precision}, ["precision"])))
    with pytest.raises(FindingsError, match=r"J503.*`precision.initial_scale: 4.0` of the job"):
        Accelerator(kwargs_handlers=[GradScalerKwargs(init_scale=8.0)])
    monkeypatch.setenv("JOBC_SPEC", str(job(ONE, ["paradigm.kind"])))
    with pytest.raises(FindingsError, match=r"J503.*paradigm.kind"):
        Accelerator(fsdp_plugin=FullyShardedDataParallelPlugin())
    monkeypatch.setenv("JOBC_SPEC", str(job({**ONE, "training": {"gradient_accumulation": 4}}, ["training"])))
    with pytest.raises(FindingsError, match="J503"):
        Accelerator(gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=2))


def test_memory_is_given_back():
    """What was prepared is forgotten, and each object's place takes None."""
    accelerator = Accelerator()
    model = accelerator.prepare(nn.Linear(1, 1))
    (model,) = accelerator.free_memory(model)
    assert model is None
    assert accelerator.clear() == []
    assert not accelerator.optimizer_step_was_skipped


def test_trigger_alone():
    """A trigger that was set is seen once."""
    accelerator = Accelerator()
    accelerator.set_trigger()
    assert [accelerator.check_trigger(), accelerator.check_trigger()] == [True, False]
