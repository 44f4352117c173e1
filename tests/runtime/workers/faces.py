"""Checks of the names around the Accelerator in a world of two."""

import logging

import jobc
import torch
from belongings import shared_folder
from common import Accelerator, data, job, loader, model, refuses, same
from jobc import (
    DataLoaderConfiguration,
    DDPCommunicationHookType,
    DistributedDataParallelKwargs,
    DistributedType,
    FullyShardedDataParallelPlugin,
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
    PartialState,
    get_logger,
    skip_first_batches,
)
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader


def check_kinds_of_worlds():
    accelerator = Accelerator()
    assert accelerator.distributed_type == DistributedType.MULTI_CPU
    assert accelerator.use_distributed
    assert "gloo" in accelerator.backend
    sharded = Accelerator(fsdp_plugin=FullyShardedDataParallelPlugin(auto_wrap_policy="no_wrap"))
    assert sharded.distributed_type == DistributedType.FSDP
    assert sharded.state.distributed_type == DistributedType.FSDP


def check_a_state_is_a_view():
    state = PartialState()
    assert (state.num_processes, state.process_index) == (2, Accelerator().process_index)
    state.destroy_process_group()  # it did not open it
    assert torch.distributed.is_initialized()
    assert "Num processes: 2" in repr(state)


def check_functions_for_a_process_by_number():
    accelerator = Accelerator()
    here = accelerator.process_index
    assert accelerator.on_last_process(lambda: 7)() == (7 if here == 1 else None)
    assert accelerator.on_process(lambda: 7, process_index=1)() == (7 if here == 1 else None)

    @accelerator.on_local_process(local_process_index=0)
    def first():
        return 7

    assert first() == (7 if here == 0 else None)
    with refuses("J507", "there is no process 2", "0 to 1"):
        accelerator.on_process(process_index=2)
    with refuses("J507", "no process is named"):
        accelerator.on_process(lambda: 7)


def split(inputs, **options):
    with Accelerator().split_between_processes(inputs, **options) as mine:
        return mine


def check_inputs_are_split():
    here = Accelerator().process_index
    assert split([1, 2, 3]) == [[1, 2], [3]][here]
    assert split((1, 2, 3), apply_padding=True) == [(1, 2), (3, 3)][here]
    assert split([1], apply_padding=True) == [1]
    assert split([], apply_padding=True) == []
    assert split(range(5)) == [range(3), range(3, 5)][here]
    assert split(torch.arange(3), apply_padding=True).tolist() == [[0, 1], [2, 2]][here]
    assert split(torch.arange(6).reshape(3, 2).numpy()).tolist() == [[[0, 1], [2, 3]], [[4, 5]]][here]
    given = {"a": ["x", "y", "z"], "b": torch.arange(3)}
    mine = split(given)
    assert mine["a"] == [["x", "y"], ["z"]][here]
    assert len(given["a"]) == 3
    dataset = data(5)
    assert [float(item[1]) for item in split(dataset)] == [float(dataset[i][1]) for i in ([0, 1, 2], [3, 4])[here]]
    with refuses("J504", "`str`"):
        split("abc")
    with refuses("J504", "different lengths"):
        split({"a": [1], "b": [1, 2]})


def check_values_of_one_process_reach_all():
    accelerator = Accelerator()
    here = accelerator.process_index
    mine = {"t": torch.full((2,), float(here)), "n": [torch.tensor(here), f"from {here}"]}
    found = accelerator.broadcast(mine if here == 1 else None, from_process=1)
    assert found["t"].tolist() == [1.0, 1.0]
    assert (found["n"][0].item(), found["n"][1]) == (1, "from 1")
    assert jobc.broadcast(torch.tensor([here])).tolist() == [0]
    listed = [here, "x"]
    assert jobc.broadcast_object_list(listed, from_process=1) is listed
    assert listed == [1, "x"]


def check_functions_do_what_methods_do():
    accelerator = Accelerator()
    here = accelerator.process_index
    assert jobc.gather(torch.tensor([here])).tolist() == [0, 1]
    assert jobc.gather_object([here, "a"]) == [0, "a", 1, "a"]
    assert jobc.gather_object({"r": here}) == [{"r": 0}, {"r": 1}]
    assert jobc.reduce(torch.tensor(float(here))).item() == 0.5
    assert jobc.reduce({"x": torch.tensor(here)}, "sum", scale=3.0)["x"].item() == 3.0
    assert accelerator.reduce(torch.tensor(1.0), scale=0.5).item() == 1.0
    assert jobc.pad_across_processes(torch.ones(1 + here)).tolist() == [1.0, float(here)]
    jobc.wait_for_everyone()


def check_a_trigger_of_one_is_seen_by_all():
    accelerator = Accelerator()
    if accelerator.process_index == 1:
        accelerator.set_trigger()
    assert accelerator.check_trigger()
    assert not accelerator.check_trigger()


def check_seeds_of_devices_differ():
    jobc.set_seed(7, device_specific=True)
    assert Accelerator().gather(torch.tensor([torch.initial_seed()])).tolist() == [7, 8]


def check_a_logger_speaks_once_or_in_order():
    accelerator = Accelerator()
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append((record.getMessage(), record.funcName))
    logger = get_logger("faces", log_level="INFO")
    logger.logger.addHandler(handler)
    logger.info("once")
    logger.info("all", main_process_only=False)
    logger.info("turn", in_order=True)
    logger.debug("never", in_order=True)
    logger.warning_once("again")
    logger.warning_once("again")
    here = accelerator.process_index
    name = "check_a_logger_speaks_once_or_in_order"
    expected = [f"[RANK {here}] all", f"[RANK {here}] turn"]
    if here == 0:
        expected = ["[RANK 0] once", *expected, "[RANK 0] again"]
    assert lines == [(line, name) for line in expected]


def check_gradients_are_sent_as_asked():
    results = []
    for hook, wrapper in (("no", "no"), ("fp16", "no"), ("power_sgd", "fp16")):
        options = DistributedDataParallelKwargs(
            comm_hook=DDPCommunicationHookType(hook),
            comm_wrapper=DDPCommunicationHookType(wrapper),
            comm_state_option={"start_powerSGD_iter": 2} if hook == "power_sgd" else {},
            bucket_cap_mb=3,
        )
        accelerator = Accelerator(kwargs_handlers=[options])
        ready = accelerator.prepare(model())
        assert ready.bucket_bytes_cap == 3 * 1024 * 1024
        assert accelerator.prepare(ready) is ready
        accelerator.backward(ready(torch.ones(2, 4) * (1 + accelerator.process_index)).sum())
        results.append([parameter.grad.clone() for parameter in ready.parameters()])
    assert same(results[0], results[1], 0.02)
    assert same(results[1], results[2], 0.02)
    assert not same(results[0], results[1])


def check_ways_to_send_that_torch_cannot_go_are_refused():
    for options, words in (
        ({"comm_hook": "bf16"}, "NCCL"),
        ({"comm_hook": "fp16", "comm_wrapper": "bf16"}, "comm_wrapper='bf16'"),
        ({"comm_hook": "batched_power_sgd"}, "fails at the first step that it compresses"),
        ({"comm_hook": "power_sgd", "comm_state_option": {"start_powerSGD_iter": 1}}, "start_powerSGD_iter"),
        ({"comm_hook": "power_sgd", "comm_state_option": {"rank": 1}}, "rank"),
    ):
        accelerator = Accelerator(kwargs_handlers=[DistributedDataParallelKwargs(**options)])
        with refuses("J507", words):
            accelerator.prepare(model())


def check_ddp_options_beside_another_paradigm_are_refused():
    with (
        job(paradigm={"kind": "fsdp"}, explicit=["paradigm.kind"]),
        refuses("J507", "no effect under paradigm `fsdp`"),
    ):
        Accelerator(kwargs_handlers=[DistributedDataParallelKwargs(static_graph=True)])
    with job(explicit=["paradigm.static_graph"]), refuses("J503", "paradigm.static_graph"):
        Accelerator(kwargs_handlers=[DistributedDataParallelKwargs(static_graph=True)])


def check_backend_between_gpus_needs_gpus():
    handlers = [InitProcessGroupKwargs(backend="gloo")]
    assert Accelerator(kwargs_handlers=handlers).num_processes == 2


def check_gradients_of_every_batch_are_averaged_when_asked():
    for each, expected in ((False, [1.0, 2.0]), (True, [1.5, 1.5])):
        plugin = GradientAccumulationPlugin(num_steps=2, sync_each_batch=each)
        accelerator = Accelerator(gradient_accumulation_plugin=plugin)
        ready = accelerator.prepare(nn.Linear(1, 1, bias=False))
        with accelerator.accumulate(ready):
            accelerator.backward(ready(torch.ones(1, 1) * 2 * (1 + accelerator.process_index)).sum())
        mine = ready.module.weight.grad
        assert mine.item() == expected[accelerator.process_index], each


def check_skipped_batches_are_left_out_once():
    accelerator = Accelerator(dataloader_config=DataLoaderConfiguration(data_seed=3))
    ready, twin = accelerator.prepare(loader(18, 2, shuffle=True), loader(18, 2, shuffle=True))
    whole = [[batch["id"].tolist() for batch in twin] for _ in range(2)]
    rest = accelerator.skip_first_batches(ready, 3)
    assert len(rest) == len(twin) - 3
    assert [batch["id"].tolist() for batch in rest] == whole[0][3:]
    assert [batch["id"].tolist() for batch in ready] == whole[1]
    seen = []
    plain = accelerator.prepare(loader(9, 2))
    for batch in skip_first_batches(plain, 1):
        seen += accelerator.gather_for_metrics(batch["id"]).tolist()
    assert seen == list(range(4, 9))
    assert list(skip_first_batches(plain, 9)) == []
    assert [batch.tolist() for batch in skip_first_batches(DataLoader(range(5), batch_size=2), 1)] == [[2, 3], [4]]
    with refuses("J504", "`list`"):
        skip_first_batches([1], 1)
    with refuses("J507", "-1"):
        skip_first_batches(plain, -1)


def check_models_are_unwrapped():
    accelerator = Accelerator(mixed_precision="bf16")
    plain = model()
    ready = accelerator.prepare(plain)
    assert isinstance(ready, DistributedDataParallel)
    assert accelerator.unwrap_model(ready) is plain
    assert jobc.extract_model_from_parallel(ready) is plain
    assert "forward" in vars(plain)
    assert "forward" not in vars(jobc.extract_model_from_parallel(ready, keep_fp32_wrapper=False))
    compiled = torch.compile(plain, backend="eager")
    assert accelerator.unwrap_model(compiled) is compiled
    assert accelerator.unwrap_model(compiled, keep_torch_compile=False) is plain


def check_models_are_loaded_into_what_was_prepared():
    accelerator = Accelerator()
    one, other = accelerator.prepare(model()), accelerator.prepare(model(seed=2))
    folder = shared_folder(accelerator)
    accelerator.save_model(one, folder, max_shard_size=200)
    found = jobc.load_checkpoint_in_model(other, folder)
    assert found == ([], [])
    assert same(one, other)
    assert set(accelerator.get_state_dict(one)) == set(model().state_dict())
    accelerator.wait_for_everyone()
    sharded = Accelerator(fsdp_plugin=FullyShardedDataParallelPlugin()).prepare(model(seed=3))
    jobc.load_checkpoint_in_model(sharded, folder)
    assert same([item.full_tensor() for item in sharded.parameters()], list(one.parameters()))


def check_a_batch_size_is_found_together():
    accelerator = Accelerator()
    tried = []

    @jobc.find_executable_batch_size(starting_batch_size=16)
    def train(batch_size):
        tried.append(batch_size)
        if batch_size > 4 and accelerator.process_index == 1:
            raise MemoryError
        return batch_size

    assert (train(), tried) == (4, [16, 8, 4])
    assert accelerator.gather([accelerator.process_index]) == [0, 1]


def check_uneven_data_is_joined():
    accelerator = Accelerator()
    plain = model()
    ready, optimizer, ready_loader = accelerator.prepare(
        plain, torch.optim.SGD(plain.parameters(), lr=0.1), DataLoader(data(10), batch_size=2)
    )
    for even, expected in ((None, [3, 3]), (False, [3, 2]), (None, [3, 3])):
        steps = 0
        with accelerator.join_uneven_inputs([ready], even_batches=even):
            for inputs, targets in ready_loader:
                accelerator.backward(nn.functional.mse_loss(ready(inputs), targets))
                optimizer.step()
                optimizer.zero_grad()
                steps += 1
        assert accelerator.gather([steps]) == expected
    values = accelerator.gather(plain[0].weight.detach()[None])
    assert torch.equal(values[0], values[1])
    sharded = Accelerator(fsdp_plugin=FullyShardedDataParallelPlugin())
    with refuses("J510", "fsdp"), sharded.join_uneven_inputs([]):
        pass
