"""The leaf property: whatever a person writes in a document has an effect, or a finding says why it cannot.

Every leaf of the schema is changed in a job where it applies. Then a command, a variable, a file or a step of the plan
is another one (the plan's own copy of the document does not count), or the document is refused; or the leaf belongs to
the training process, and the table below names the test that shows what it does there.
"""

import ast
from pathlib import Path

import msgspec
import pytest
import yaml
from jobc.compiler.compile import compile_plan
from jobc.spec import FindingsError
from jobc.spec.capabilities import PLANNED
from jobc.spec.describe import fields
from jobc.spec.resolve import resolve

TESTS = Path(__file__).parents[1]
TWO = {"script": "train.py", "hardware": {"kind": "cpu", "per_node": 2}}
GPUS = {"script": "train.py", "hardware": {"kind": "gpu", "per_node": 2}}
RAY = {**TWO, "target": {"kind": "ray"}}
HOSTS = {**TWO, "target": {"kind": "ssh", "hosts": ["one", "two"]}}
PODS = {**TWO, "target": {"kind": "kubernetes", "image": "one"}}

#: Slices of TPUs: of Cloud TPU, asked for in a queue, of Compute Engine.
SLICE = {
    "script": "train.py",
    "hardware": {"kind": "tpu", "type": "v6e-16"},
    "target": {"kind": "tpu_pod", "zone": "us-east5-b", "project": "project"},
}
QUEUED = {**SLICE, "target": {**SLICE["target"], "way": "queued_resource"}}
ENGINE = {**SLICE, "target": {**SLICE["target"], "way": "compute_engine"}}
RESERVED = {**ENGINE, "target": {**ENGINE["target"], "capacity": "reserved", "reservation": "ours"}}
SLURM = {**TWO, "target": {"kind": "slurm"}}
SLURM_GPUS = {**GPUS, "target": {"kind": "slurm"}}
CONTAINER = {**TWO, "target": {"kind": "slurm", "container_image": "image.sif"}}

SAGEMAKER = {
    **TWO,
    "target": {
        "kind": "sagemaker",
        "region": "us-east-1",
        "role": "arn:aws:iam::123456789012:role/training",
        "instance_type": "ml.m5.xlarge",
        "output": "s3://bucket/runs",
    },
}
COMPILED = {**TWO, "training": {"compile": {"backend": "inductor"}}}
AGAIN = {"max_restarts": 1, "elastic": {"min": 1}}
BATCHED = {**TWO, "args": ["${training.gradient_accumulation}"], "training": {"global_batch": 16, "micro_batch": 4}}


SPAWNED = {"script": "train.py", "hardware": {"kind": "tpu", "runtime": "torch_xla"}, "function": "main"}
ZERO = {**TWO, "launcher": "deepspeed", "paradigm": {"kind": "deepspeed", "config_argument": "--deepspeed_config"}}
REACHED = {
    "script": "train.py",
    "hardware": "cpu",
    "paradigm": {"kind": "deepspeed", "multinode_launcher": "pdsh", "hostfile": "slots"},
}


def zero(**more):
    return {**ZERO, "paradigm": {**ZERO["paradigm"], "zero_stage": 3, **more}}


def kind(word, base=TWO, block="hardware", **more):
    return {**base, block: {"kind": word, **({"per_node": 2} if block == "hardware" else {}), **more}}


def told(**more):
    return {**SAGEMAKER, "target": {**SAGEMAKER["target"], **more}}


#: By path, and the kind where only that has it: a job in which the leaf applies, and another value for it.
CHANGES = {
    "defaults": (TWO, ["base"]),
    "version": (TWO, 2),
    "name": (TWO, "other"),
    "script": (TWO, "other.py"),
    "module": ({"module": "one"}, "two"),
    "command": ({"command": ["one"]}, ["two"]),
    "args": (TWO, ["--lr", 1]),
    "workdir": (TWO, "below"),
    "env": (TWO, {"A": "1"}),
    "secrets": (TWO, ["TOKEN"]),
    "python": (TWO, "/opt/python"),
    "setup": (TWO, ["source activate"]),
    "launcher": (TWO, "python"),
    "function": (SPAWNED, "train"),
    "launcher_args": (TWO, ["--start-method=fork"]),
    "limits.minutes": (TWO, 5),
    "depends_on": (TWO, ["last"]),
    "limits.memory": (TWO, "8GiB"),
    "hardware": (TWO, {"kind": "gpu", "per_node": 2}),
    "hardware.per_node/auto": (kind("auto"), 3),
    "hardware.per_node/cpu": (TWO, 3),
    "hardware.per_node/gpu": (GPUS, 3),
    "hardware.per_node/tpu": (kind("tpu"), 3),
    "hardware.type": ({"script": "train.py", "hardware": {"kind": "tpu", "type": "v6e-8"}}, "v6e-4"),
    "hardware.runtime": ({"script": "train.py", "hardware": {"kind": "tpu", "type": "v6e-8"}}, "spmd"),
    "paradigm.zero_stage": (zero(), 2),
    "paradigm.offload_optimizer.device": (zero(), "cpu"),
    "paradigm.offload_optimizer.nvme_path": (zero(offload_optimizer={"device": "nvme", "nvme_path": "/a"}), "/b"),
    "paradigm.offload_optimizer.pin_memory": (zero(offload_optimizer={"device": "cpu"}), True),
    "paradigm.offload_param.device": (zero(), "cpu"),
    "paradigm.offload_param.nvme_path": (zero(offload_param={"device": "nvme", "nvme_path": "/a"}), "/b"),
    "paradigm.offload_param.pin_memory": (zero(offload_param={"device": "cpu"}), True),
    "paradigm.zero3_init": (zero(), True),
    "paradigm.save_16bit_model": (zero(), True),
    "paradigm.moe_layers": (zero(), ["Experts"]),
    "paradigm.config_file": (ZERO, "ds.json"),
    "paradigm.config_argument": (ZERO, "--deepspeed"),
    "paradigm.multinode_launcher": (REACHED, "openmpi"),
    "paradigm.multinode_args": (REACHED, ["-b"]),
    "paradigm.hostfile": (REACHED, "slots2"),
    "paradigm.include": (REACHED, "one:1"),
    "paradigm.exclude": (REACHED, "one:0@two:0"),
    "hardware.threads_per_process/auto": (kind("auto"), 4),
    "hardware.threads_per_process/cpu": (TWO, 4),
    "hardware.threads_per_process/gpu": (GPUS, 4),
    "hardware.threads_per_process/tpu": (kind("tpu"), 4),
    "hardware.cpu_affinity/auto": ({**kind("auto"), "launcher": "python"}, ["0", "1"]),
    "hardware.cpu_affinity/cpu": ({**TWO, "launcher": "python"}, ["0", "1"]),
    "hardware.cpu_affinity/gpu": ({**GPUS, "launcher": "python"}, ["0", "1"]),
    "hardware.ids": (GPUS, [0, 3]),
    "hardware.numa_binding": (GPUS, "node"),
    "hardware.model": (GPUS, "t4"),
    "precision": (TWO, "bf16"),
    "precision.reduce/bf16": ({**TWO, "precision": {"kind": "bf16"}, "paradigm": {"kind": "fsdp"}}, "bf16"),
    "precision.reduce/fp16": ({**TWO, "precision": {"kind": "fp16"}, "paradigm": {"kind": "fsdp"}}, "fp16"),
    "paradigm": (TWO, "fsdp"),
    "paradigm.sharding": ({**TWO, "target": "inherit", "nodes": 2, "paradigm": {"kind": "fsdp"}}, "hybrid"),
    "paradigm.replicate": (kind("fsdp", kind("cpu", per_node=8), "paradigm", sharding="hybrid", replicate=2), 4),
    "paradigm.offload": ({**GPUS, "paradigm": {"kind": "fsdp"}}, True),
    "training.activation_offload": ({**GPUS, "training": {"activation_checkpointing": True}}, True),
    "paradigm.ignored": (kind("fsdp", block="paradigm"), ["encoder"]),
    "paradigm.wrap": (kind("fsdp", block="paradigm"), ["Block"]),
    "paradigm.min_parameters": ({**TWO, "paradigm": {"kind": "fsdp", "wrap": "size"}}, 1000),
    "paradigm.bucket_size_mb": (kind("ddp", block="paradigm"), 3),
    "paradigm.comm_hook": (kind("ddp", block="paradigm"), "fp16"),
    "nodes.count": ({**HOSTS, "nodes": {"count": 2}}, 1),
    "nodes.rendezvous.backend": (HOSTS, "static"),
    "nodes.rendezvous.address": (HOSTS, "one.local"),
    "nodes.rendezvous.conf": (TWO, {"join_timeout": 60}),
    "nodes.rendezvous.port": (TWO, 29511),
    "nodes.elastic.min": ({**TWO, "target": {"kind": "ssh", "hosts": ["one", "two", "three"]}, "nodes": AGAIN}, 2),
    "nodes.max_restarts": (TWO, 3),
    "nodes.monitor_interval": (TWO, 5),
    "nodes.collective_timeout": (TWO, 60),
    "target": (TWO, {"kind": "ssh", "hosts": ["one"]}),
    "target.hosts": (HOSTS, ["one", "three"]),
    "target.hosts_file": ({**TWO, "target": {"kind": "ssh", "hosts_file": "hosts"}}, "others"),
    "target.config": (HOSTS, "ssh.conf"),
    "target.port": (HOSTS, 2222),
    "target.jump": (HOSTS, "gate"),
    "target.connect_timeout": (HOSTS, 3),
    "target.folder": (HOSTS, "elsewhere"),
    "target.exclude/ssh": (HOSTS, ["train.py"]),
    "target.exclude/slurm": (SLURM, "n1"),
    "target.ssh_args": (HOSTS, ["-4"]),
    "target.rsync_args": (HOSTS, ["--bwlimit=9"]),
    "training.global_batch": (BATCHED, 32),
    "training.micro_batch": (TWO, 8),
    "target.address/ray": (RAY, "http://other:8265"),
    "target.cpus/ray": (RAY, 4),
    "target.resources/ray": (RAY, {"big": 1}),
    "target.runtime_env/ray": (RAY, {"pip": ["datasets"]}),
    "target.entrypoint.cpus/ray": (RAY, 1),
    "target.entrypoint.gpus/ray": (RAY, 0.5),
    "target.entrypoint.memory/ray": (RAY, 1000000),
    "target.entrypoint.resources/ray": (RAY, {"head": 1}),
    "target.folder/ray": (RAY, "elsewhere"),
    "target.exclude/ray": (RAY, ["train.py"]),
    "target.ray_args/ray": (RAY, ["--verify=ca.pem"]),
    "target.submit_args/ray": (RAY, ["--metadata-json={}"]),
    "target.zone/tpu_pod": (SLICE, "us-central2-b"),
    "target.project/tpu_pod": (SLICE, "other"),
    "target.way/tpu_pod": (SLICE, "queued_resource"),
    "target.name/tpu_pod": (SLICE, "mine"),
    "target.existing/tpu_pod": ({**SLICE, "target": {**SLICE["target"], "name": "mine"}}, True),
    "target.keep/tpu_pod": (SLICE, True),
    "target.capacity/tpu_pod": (SLICE, "spot"),
    "target.reservation/tpu_pod": (RESERVED, "theirs"),
    "target.valid_until/tpu_pod": (QUEUED, "6h"),
    "target.max_minutes/tpu_pod": (ENGINE, 90),
    "target.runtime_version/tpu_pod": (SLICE, "tpu-ubuntu2204-base"),
    "target.image/tpu_pod": (ENGINE, "debian-cloud/debian-12"),
    "target.boot_disk_gb/tpu_pod": (ENGINE, 500),
    "target.data_disks/tpu_pod": (SLICE, ["data"]),
    "target.network/tpu_pod": (SLICE, "inside"),
    "target.subnetwork/tpu_pod": (SLICE, "below"),
    "target.internal_ips/tpu_pod": (SLICE, True),
    "target.service_account/tpu_pod": (SLICE, "a@b.iam.gserviceaccount.com"),
    "target.tags/tpu_pod": (SLICE, ["training"]),
    "target.labels/tpu_pod": (SLICE, {"team": "one"}),
    "target.user/tpu_pod": (SLICE, "someone"),
    "target.exclude/tpu_pod": (SLICE, ["train.py"]),
    "target.create_args/tpu_pod": (SLICE, ["--description=mine"]),
    "target.ssh_args/tpu_pod": (SLICE, ["--plain"]),
    "target.scp_args/tpu_pod": (SLICE, ["--compress"]),
    "target.partition/slurm": (SLURM, "gpu"),
    "target.account/slurm": (SLURM, "lab"),
    "target.qos/slurm": (SLURM, "high"),
    "target.reservation/slurm": (SLURM, "week"),
    "target.constraint/slurm": (SLURM, "h100|a100"),
    "target.nodelist/slurm": (SLURM, "n[1-2]"),
    "target.exclusive/slurm": (SLURM, True),
    "target.gpus/slurm": (SLURM_GPUS, "gres"),
    "target.gpu_type/slurm": (SLURM_GPUS, "h100"),
    "target.cpus_per_task/slurm": (SLURM, 8),
    "target.memory/slurm": (SLURM, "8GiB"),
    "target.requeue/slurm": (SLURM, True),
    "target.signal_before/slurm": (SLURM, 60),
    "target.container_image/slurm": (SLURM, "image.sif"),
    "target.container_runtime/slurm": (CONTAINER, "apptainer"),
    "target.container_mounts/slurm": (CONTAINER, ["/data"]),
    "target.export/slurm": (SLURM, ["PATH"]),
    "target.extra/slurm": (SLURM, ["--licenses=a:1"]),
    "target.api/kubernetes": (PODS, "jobset"),
    "target.image/kubernetes": (PODS, "two"),
    "target.folder/kubernetes": (PODS, "/elsewhere"),
    "target.runtime/kubernetes": (PODS, "other"),
    "target.namespace/kubernetes": (PODS, "team"),
    "target.context/kubernetes": (PODS, "other"),
    "target.kubeconfig/kubernetes": (PODS, "kube.conf"),
    "target.volumes/kubernetes": (PODS, {"/data": "claim:data"}),
    "target.shared_memory/kubernetes": (PODS, "16Gi"),
    "target.cpu/kubernetes": (PODS, 8),
    "target.memory/kubernetes": (PODS, "64Gi"),
    "target.gpu_resource/kubernetes": ({**GPUS, "target": {"kind": "kubernetes"}}, "example.com/gpu"),
    "target.node_selector/kubernetes": (PODS, {"pool": "training"}),
    "target.tolerations/kubernetes": (PODS, ["pool=training:NoSchedule"]),
    "target.service_account/kubernetes": (PODS, "trainer"),
    "target.secret/kubernetes": ({**PODS, "secrets": ["A"], "target": {"kind": "kubernetes", "secret": "one"}}, "two"),
    "target.image_pull_secrets/kubernetes": (PODS, ["registry"]),
    "target.grace_seconds/kubernetes": (PODS, 120),
    "target.extra/kubernetes": (PODS, {"metadata": {"labels": {"team": "one"}}}),
    "target.region/sagemaker": (SAGEMAKER, "eu-west-1"),
    "target.role/sagemaker": (SAGEMAKER, "arn:aws:iam::123456789012:role/other"),
    "target.instance_type/sagemaker": (SAGEMAKER, "ml.m5.2xlarge"),
    "target.output/sagemaker": (SAGEMAKER, "s3://bucket/elsewhere"),
    "target.image/sagemaker": (SAGEMAKER, "image:1"),
    "target.torch/sagemaker": (SAGEMAKER, "2.12"),
    "target.volume_gb/sagemaker": (SAGEMAKER, 100),
    "target.spot/sagemaker": (told(max_wait_minutes=2000, checkpoint_s3="s3://bucket/kept", spot=True), False),
    "target.max_wait_minutes/sagemaker": (
        told(max_wait_minutes=2000, checkpoint_s3="s3://bucket/kept", spot=True),
        3000,
    ),
    "target.max_pending_minutes/sagemaker": (SAGEMAKER, 60),
    "target.checkpoint_s3/sagemaker": (SAGEMAKER, "s3://bucket/kept"),
    "target.retries/sagemaker": (SAGEMAKER, 3),
    "target.channels/sagemaker": (SAGEMAKER, {"train": "s3://bucket/data"}),
    "target.input_mode/sagemaker": (told(channels={"train": "s3://bucket/data"}), "FastFile"),
    "target.subnets/sagemaker": (told(subnets=["subnet-1"], security_groups=["sg-1"]), ["subnet-2"]),
    "target.security_groups/sagemaker": (told(subnets=["subnet-1"], security_groups=["sg-1"]), ["sg-2"]),
    "target.network_isolation/sagemaker": (SAGEMAKER, True),
    "target.encrypt_traffic/sagemaker": (SAGEMAKER, True),
    "target.kms_key/sagemaker": (SAGEMAKER, "alias/key"),
    "target.volume_kms_key/sagemaker": (SAGEMAKER, "alias/key"),
    "target.keep_alive_minutes/sagemaker": (SAGEMAKER, 10),
    "target.tags/sagemaker": (SAGEMAKER, {"team": "one"}),
    "target.metrics/sagemaker": (SAGEMAKER, {"loss": "loss=(.*)"}),
    "target.exclude/sagemaker": (SAGEMAKER, ["other.py"]),
    "target.extra/sagemaker": (SAGEMAKER, {"ExperimentConfig": {"ExperimentName": "one"}}),
    "training.gradient_accumulation": (TWO, 4),
    "training.gradient_clipping.norm": (TWO, 1),
    "training.gradient_clipping.value": (TWO, 1),
    "training.deterministic": (GPUS, True),
    "training.seed": (TWO, 3),
    "training.compile.backend": (TWO, "inductor"),
    "training.compile.mode": (COMPILED, "max-autotune"),
    "training.compile.fullgraph": (COMPILED, True),
    "training.compile.dynamic": (COMPILED, True),
    "training.compile.regional": (COMPILED, True),
    "training.dataloader.seed": (TWO, 3),
    "training.dataloader.prefetch": (GPUS, 3),
    "training.checkpoint.folder": (TWO, "states"),
    "training.checkpoint.every_steps": (TWO, 3),
    "training.checkpoint.every_minutes": (TWO, 3),
    "training.checkpoint.keep": (TWO, 3),
    "logging.ranks": (TWO, [0]),
    "logging.prefix": (TWO, "{rank}: "),
    "logging.folder": (TWO, "kept"),
    "logging.role": (TWO, "trainer"),
    "vars": ({**TWO, "args": ["${vars.x}"], "vars": {"x": 1}}, {"x": 2}),
}

#: Leaves that no plan can have with another value, and the code that says so.
REFUSED = {
    "defaults": "J114",
    "version": "J113",
    "paradigm.sharding": "J105",
    "nodes.count": "J313",
    "paradigm.zero3_init": "J311",
    "depends_on": "J311",
    "target.spot": "J311",
}

_HONOURED, _RESUMING = "runtime/workers/honoured.py::check_", "runtime/workers/resuming.py::check_"
_CONFORMING = "runtime/workers/conformance.py::check_"
_KEEPING = "runtime/workers/keeping.py::check_"
_WRAPPED, _COMPILED = (
    f"{_HONOURED}models_are_wrapped_as_the_job_says",
    f"{_HONOURED}models_are_compiled_as_the_job_says",
)
_SCALE = "runtime/test_arguments.py::test_loss_scale_changes_as_the_job_says"
#: Leaves that the training process honours, and the test that sees it behave differently.
RUNTIME = {
    "hardware": "runtime/test_world.py::test_world_without_the_gpu_it_needs_is_refused",
    "hardware.model": "runtime/test_devices.py::test_device_of_another_model_is_refused",
    "precision": f"{_HONOURED}numbers_are_those_of_the_job",
    "precision.reduce": f"{_HONOURED}gradients_are_added_up_in_the_format_of_the_job",
    "precision.initial_scale": _SCALE,
    "precision.growth_interval": _SCALE,
    "precision.growth_factor": _SCALE,
    "precision.backoff_factor": "runtime/test_arguments.py::test_loss_scale_changes_by_the_factors_given",
    "paradigm": f"{_HONOURED}models_are_cut_as_the_job_says",
    "paradigm.find_unused_parameters": _WRAPPED,
    "paradigm.static_graph": _WRAPPED,
    "paradigm.gradient_as_bucket_view": _WRAPPED,
    "paradigm.bucket_size_mb": _WRAPPED,
    "paradigm.broadcast_buffers": "runtime/workers/training.py::check_buffers_are_the_first_processes_or_their_own",
    "paradigm.comm_hook": f"{_HONOURED}gradients_are_sent_as_the_job_says",
    "paradigm.sharding": f"{_CONFORMING}groups_each_hold_the_whole_model",
    "paradigm.replicate": f"{_CONFORMING}groups_each_hold_the_whole_model",
    "paradigm.offload": f"{_CONFORMING}optimizers_that_step_on_gpus_only_are_refused_where_parameters_are_in_memory",
    "paradigm.ignored": f"{_CONFORMING}modules_that_are_left_out_stay_whole",
    "paradigm.wrap": f"{_HONOURED}models_are_cut_as_the_job_says",
    "paradigm.min_parameters": f"{_HONOURED}models_are_cut_as_the_job_says",
    "paradigm.reshard_after_forward": f"{_HONOURED}models_are_cut_as_the_job_says",
    "nodes.collective_timeout": f"{_HONOURED}collectives_have_the_timeout_of_the_job",
    "training.micro_batch": f"{_HONOURED}batches_have_the_size_that_the_job_says",
    "training.gradient_accumulation": f"{_HONOURED}steps_are_those_of_the_job",
    "training.activation_checkpointing": f"{_HONOURED}activations_are_computed_again",
    "training.activation_offload": f"{_HONOURED}what_blocks_begin_with_is_kept_in_memory",
    "training.gradient_clipping.norm": f"{_HONOURED}gradients_are_clipped_by_norm",
    "training.gradient_clipping.value": f"{_HONOURED}gradients_are_clipped_by_value",
    "training.seed": "runtime/test_settings.py::test_seed_of_the_job_is_set",
    "training.loss": "runtime/workers/conformance.py::check_tokens_are_counted_for_every_loss_or_for_none",
    "training.compile.backend": _COMPILED,
    "training.compile.mode": _COMPILED,
    "training.compile.fullgraph": f"{_HONOURED}a_broken_graph_is_refused_where_the_job_says_so",
    "training.compile.dynamic": _COMPILED,
    "training.compile.regional": _COMPILED,
    "training.scheduler.step": "runtime/workers/training.py::check_scheduler_follows_the_job",
    "training.dataloader.split_batches": f"{_HONOURED}batches_are_dealt_as_the_job_says",
    "training.dataloader.even_batches": f"{_HONOURED}batches_are_dealt_as_the_job_says",
    "training.dataloader.seed": f"{_HONOURED}the_order_of_the_data_has_a_seed_of_its_own",
    "training.dataloader.dispatch": "runtime/workers/dispatching.py::check_the_job_says_it",
    "training.dataloader.prefetch": "runtime/test_prefetching.py::test_batches_are_sent_before_they_are_asked_for",
    "training.checkpoint.folder": f"{_RESUMING}job_saves_by_itself_and_goes_on_from_there",
    "training.checkpoint.every_steps": f"{_RESUMING}job_saves_by_itself_and_goes_on_from_there",
    "training.checkpoint.every_minutes": f"{_RESUMING}job_saves_by_the_clock_in_all_processes_together",
    "training.checkpoint.keep": f"{_RESUMING}job_saves_by_itself_and_goes_on_from_there",
    "training.checkpoint.asynchronous": f"{_RESUMING}checkpoints_written_later_hold_the_same",
    "training.checkpoint.when_busy": f"{_KEEPING}second_save_is_refused_where_the_job_says_so",
    "training.checkpoint.on_error": f"{_KEEPING}folder_that_cannot_be_written_is_named_and_the_training_can_go_on",
    "training.checkpoint.resume": f"{_RESUMING}job_saves_by_itself_and_goes_on_from_there",
    "training.checkpoint.on_preemption": "cli/test_resuming.py::test_terminated_run_saves_and_a_rerun_goes_on",
    "training.debug": "runtime/test_watch.py::test_debug_mode_compares_calls_before_they_run",
}

#: Kinds of which plans do nothing yet. A planned target has its plan.
#: Those of DeepSpeed have an effect with the launcher whose scripts have it themselves.
IDLE = {item.kind for item in PLANNED if item.block != "target" and item.own is None}


def is_leaf(field):
    """A value, a mapping with names of its own, or the choice among kinds."""
    return not field.keys or field.type.startswith("a mapping") or (bool(field.choices) and field.doc is not None)


LEAVES = [field for field in fields() if is_leaf(field)]


def name_of(field):
    """The leaf in the tables: with its kind where the tables tell kinds apart."""
    return f"{field.path}/{field.kind}" if f"{field.path}/{field.kind}" in CHANGES else field.path


def change(field):
    """A job in which the leaf applies, and another value for it."""
    name = name_of(field)
    if name in CHANGES:
        return CHANGES[name]
    block = field.path.partition(".")[0]
    base = kind(field.kind, block=block) if field.kind else TWO
    if set(field.choices) == {"true", "false"}:
        return base, field.default != "true"
    if field.choices:
        return base, next(word for word in field.choices if word != field.default)
    return base, int(field.default) + 1 if field.type.startswith("an integer") else float(field.default) * 1.5


def written(document, path, value):
    """The document with a value at a path."""
    first, _, rest = path.partition(".")
    below = document.get(first, {}) if rest else None
    return {**document, first: written(below, rest, value) if rest else value}


def done_by(folder, document):
    """Everything that a run of a document does; the code of the first error where it has none."""
    (folder / "job.yaml").write_text(yaml.safe_dump(document))
    try:
        plan = compile_plan(resolve(Path("job.yaml"), (), env={}, cwd=folder, count_gpus=lambda: 2))
    except FindingsError as error:
        return next(finding.code for finding in error.findings if finding.severity == "error")
    acts = msgspec.to_builtins(plan)
    said = ("spec", "origins", "findings", "digest", "preflight")  # what machines are asked is no effect on the run
    return {key: value for key, value in acts.items() if key not in said}


@pytest.fixture
def project(folder):
    """A folder with all that the jobs name."""
    for name in ("other.py", "ssh.conf"):
        (folder / name).write_text("")
    (folder / "below").mkdir()
    (folder / "hosts").write_text("one\ntwo\n")
    (folder / "slots").write_text("one slots=2\ntwo slots=2\n")
    (folder / "slots2").write_text("one slots=2\nthree slots=2\n")
    (folder / "ds.json").write_text("{}")
    (folder / "others").write_text("one\nthree\n")
    return folder


@pytest.mark.parametrize(
    "field", [leaf for leaf in LEAVES if leaf.kind not in IDLE], ids=lambda leaf: f"{leaf.path}/{leaf.kind}".strip("/")
)
def test_leaf_has_an_effect(project, field):
    """Changed in a job where it applies, it changes what is done, in the plan or in the process, or it is refused."""
    base, value = change(field)
    before = done_by(project, base)
    assert isinstance(before, dict), f"the job of `{field.path}` is refused: {before}"
    after = done_by(project, written(base, field.path, value))
    if isinstance(after, str):
        assert after == REFUSED.get(field.path), f"`{field.path}: {value}` is refused: {after}"
    elif after == before:
        assert field.path in RUNTIME, f"`{field.path}: {value}` changes nothing"
    else:
        assert field.path not in RUNTIME, f"`{field.path}: {value}` changes the plan, and the table says otherwise"


def test_tables_name_leaves_that_there_are():
    """A leaf that is gone leaves nothing behind here."""
    names = {name_of(field) for field in LEAVES} | {field.path for field in LEAVES}
    for table in (CHANGES, REFUSED, RUNTIME):
        assert set(table) <= names, set(table) - names


@pytest.mark.parametrize("test", sorted(set(RUNTIME.values())))
def test_test_of_a_leaf_of_the_process_is_there(test):
    """Each test that the table names exists."""
    file, _, name = test.partition("::")
    functions = [node.name for node in ast.parse((TESTS / file).read_text()).body if isinstance(node, ast.FunctionDef)]
    assert name in functions


def test_leaves_of_planned_kinds_are_counted():
    """What is skipped above: the leaves of kinds that no run has yet, each of which has to be looked at with its kind."""
    assert {word: sum(leaf.kind == word for leaf in LEAVES) for word in sorted(IDLE)} == {
        "fp8": 13,
        "megatron": 16,
    }
