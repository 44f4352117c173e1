"""The catalogue: complete, of one piece, true to what packages on this machine know, and read only when asked for."""

import json
import subprocess
import sys
from typing import get_args

import botocore.session
import pytest
import yaml
from jobc.spec import shape
from jobc.spec.catalogue import accelerators, clouds, tpus
from jobc.spec.groups import PRESETS
from jobc.spec.hardware import Model

#: What torch.cuda.get_device_name says, as NVIDIA's and AMD's drivers have it.
NAMES = {
    "NVIDIA H100 80GB HBM3": "h100",
    "NVIDIA H100 PCIe": "h100",
    "NVIDIA H200": "h200",
    "NVIDIA GH200 480GB": "gh200",
    "NVIDIA A100-SXM4-40GB": "a100",
    "NVIDIA A100-PCIE-40GB": "a100",
    "NVIDIA A10G": "a10g",
    "NVIDIA A10": "a10",
    "NVIDIA L4": "l4",
    "NVIDIA L40S": "l40s",
    "NVIDIA RTX A6000": "a6000",
    "NVIDIA GeForce RTX 4090": "rtx4090",
    "NVIDIA RTX 6000 Ada Generation": "rtx6000ada",
    "NVIDIA B200": "b200",
    "Tesla V100-SXM2-16GB": "v100",
    "Tesla T4": "t4",
    "AMD Instinct MI300X": "mi300x",
}


def test_models_of_the_document_are_those_of_the_catalogue():
    """Each word that a document can say is described, and nothing else is."""
    assert list(get_args(Model)) == list(accelerators())


@pytest.mark.parametrize("name", NAMES)
def test_device_is_one_model(name):
    """A device's name is that of one accelerator, not also of another whose name is a part of it."""
    assert [word for word, item in accelerators().items() if item.is_called(name)] == [NAMES[name]]


@pytest.mark.parametrize("word", accelerators())
def test_accelerator_is_of_one_piece(word):
    """Memory, peaks that belong to number formats that are there, and where it was read."""
    item = accelerators()[word]
    assert item.memory_gb
    assert list(item.memory_gb) == sorted(item.memory_gb)
    assert ("fp8" in item.tflops) == item.fp8
    assert item.bf16 or not item.fp8
    assert item.source.startswith("https://")
    if item.fp8:
        assert item.tflops["fp8"] == pytest.approx(2 * item.tflops["half"], rel=0.02)


def test_machines_have_accelerators_of_the_catalogue():
    """What a cloud's machine has is described, but for what torch does not drive as a GPU."""
    for cloud in clouds().values():
        assert cloud.source.startswith("https://")
        for item in cloud.types.values():
            assert item.accelerator in {*accelerators(), "trainium"}
            assert item.count in (1, 2, 4, 8, 16)


def test_every_machine_of_sagemaker_is_there():
    """botocore lists the types that SageMaker trains on; all with GPUs or Trainium are in the table."""
    types = botocore.session.get_session().get_service_model("sagemaker").shape_for("TrainingInstanceType").enum
    ours = clouds()["aws"].types
    wanted = {name.removeprefix("ml.") for name in types if name[3] in "pg" or name.startswith("ml.trn")}
    assert wanted
    assert wanted <= set(ours), wanted - set(ours)


def test_presets_say_what_the_machines_that_they_name_have():
    """`h100x8` is for p5.48xlarge: the table has the same devices and as many."""
    seen = 0
    for file in sorted((PRESETS / "hardware").glob("*x8.yaml")):
        text = file.read_text()
        said = yaml.safe_load(text)
        for cloud in clouds().values():
            for name, item in cloud.types.items():
                if f" {name}" in text:
                    assert (item.accelerator, item.count) == (said["model"], said["per_node"])
                    seen += 1
    assert seen >= 5


@pytest.mark.parametrize("name", tpus().generations)
def test_topology_of_a_tpu_has_as_many_chips_as_its_type(name):
    """`v4-32` is 16 chips in 2x2x4, on four machines."""
    generation = tpus().generations[name]
    for word, topology in generation.topologies.items():
        product = 1
        for size in topology.split("x"):
            product *= int(size)
        assert product == generation.chips(int(word))
        assert generation.hosts(int(word)) * 4 >= product or product == 8


def test_hosts_of_tpus_are_those_of_the_cloud():
    """As the documentation of Cloud TPU lists them."""
    found = tpus().generations
    assert (found["v4"].hosts(32), found["v5e"].hosts(8), found["v5e"].hosts(16), found["v6e"].hosts(256)) == (
        4,
        1,
        4,
        64,
    )


def test_plan_without_a_model_reads_no_catalogue(folder):
    """Planning stays quick: the data is read for the job that names a device."""
    code = (
        "import sys, json, jobc\n"
        "jobc.plan('job.yaml', sys.argv[1:])\n"
        "print(json.dumps('jobc.spec.catalogue' in sys.modules))"
    )
    (folder / "job.yaml").write_text("script: train.py\nhardware: gpu\nprecision: bf16\n")
    for words, expected in (([], False), (["hardware.model=h100"], True)):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) is expected


def test_models_are_offered_by_the_schema():
    """An editor completes them."""
    schema = shape.kinds(shape.job_schema()["properties"]["hardware"])["gpu"]["properties"]["model"]
    assert set(accelerators()) <= set(schema["examples"])


@pytest.mark.parametrize(
    ("name", "machines", "devices"),
    [("v2-8", 1, 8), ("v4-32", 4, 4), ("v5litepod-8", 1, 8), ("v5p-1024", 128, 4), ("v6e-1", 1, 1), ("v6e-256", 64, 4)],
)
def test_type_of_a_tpu_says_what_its_machines_have(resolved, name, machines, devices):
    """Machines and processes of a job follow from it; with one process for all devices of a machine, the machines alone."""
    text = f"script: train.py\nhardware: {{kind: tpu, type: {name}%s}}\n"
    job = resolved(text % "").job
    assert (job.nodes.count, job.processes_per_node) == (machines, devices)
    job = resolved(text % ", runtime: spmd").job
    assert (job.nodes.count, job.processes_per_node) == (machines, 1)
