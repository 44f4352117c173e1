"""Checks that settings of the job change what a training does, in a world of two."""

from datetime import timedelta

import torch
from common import Accelerator, data, job, loader, model, refuses, same
from jobc import (
    DataLoaderConfiguration,
    DDPCommunicationHookType,
    DistributedDataParallelKwargs,
    InitProcessGroupKwargs,
)
from torch import distributed


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
