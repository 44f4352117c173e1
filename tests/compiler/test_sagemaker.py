"""The target `sagemaker`: requests that Amazon's own model finds nothing wrong with, and what stands in them."""

import json
from pathlib import Path

import msgspec
import pytest
from jobc.cli.api import load, plan
from jobc.compiler.plan import CallApi, PackFiles, WriteFile
from jobc.compiler.sagemaker.sdk import render_v2, render_v3
from jobc.compiler.text import render_text
from jobc.executor.placeholders import run_word
from jobc.spec.catalogue.sagemaker import facts, machines
from sagemaker_jobs import FULL, FURTHER, JOBS, ONE, faults, filled

GOLDEN = Path(__file__).parent / "golden"
EXAMPLES = Path(__file__).parents[2] / "examples"
HOSTILE = '"\' \\"\\"\\" {{ x }} @{y}@ {% x %} \\u2028 é EOF $(z)'
VALUES = {"run_word": run_word("digits-20261121-101500-3f2a"), "TOKEN": "secret"}


@pytest.fixture
def made(folder):
    """The plan of a job, and what it was made from."""

    def run(text, *overrides):
        (folder / "job.yaml").write_text(text)
        spec = load("job.yaml", overrides, env={})
        return plan(spec), spec

    return run


@pytest.fixture(scope="module")
def model():
    """botocore's model of an operation."""
    session = pytest.importorskip("botocore.session").get_session()
    return lambda step: session.get_service_model(step.service).operation_model(step.operation).input_shape


def calls(plan):
    """Every request of a plan."""
    steps = (*plan.submit, *plan.status, *plan.logs, *plan.stop, *plan.preflight)
    return [step for step in steps if isinstance(step, CallApi)]


def created(plan):
    """The request CreateTrainingJob as it is sent."""
    step = next(step for step in plan.submit if isinstance(step, CallApi) and step.operation == "CreateTrainingJob")
    return filled(msgspec.to_builtins(step.request), VALUES)


@pytest.mark.parametrize("name", JOBS)
def test_text_of_a_plan_holds_every_request_and_file(made, golden, name):
    """The whole truth: what is uploaded, the request, the script of a node."""
    done, spec = made(JOBS[name])
    text = render_text(done, spec, "jobc run job.yaml", color=False, width=110, files=True)
    golden(GOLDEN / f"sagemaker_{name}.txt", text)


@pytest.mark.parametrize("name", [*JOBS, *sorted(path.parent.name for path in EXAMPLES.glob("*/job.yaml"))])
def test_requests_are_those_of_the_api(made, model, name):
    """Names, types, enums, patterns and limits of every request, as botocore has them, also of each example's."""
    from botocore.validate import ParamValidator

    if name in JOBS:
        done, _ = made(JOBS[name])
    else:
        told = [word for word in ONE.splitlines() if word.startswith("  ") and "kind:" not in word]
        words = [f"target.{word.strip().replace(': ', '=', 1)}" for word in told]
        words += ["target=sagemaker", "target.checkpoint_s3=s3://bucket/kept"]
        done = plan(load(EXAMPLES / name / "job.yaml", words, env={}))
    for step in calls(done):
        request, shape = filled(msgspec.to_builtins(step.request), VALUES), model(step)
        if shape is None:
            assert not request
            continue
        assert ParamValidator().validate(request, shape).generate_report() == ""
        assert faults(shape, request) == []


def test_walk_over_the_model_sees_what_the_validator_does_not(model):
    """The check of the checks: an enum, a pattern and a limit."""
    shape = model(CallApi(service="sagemaker", operation="CreateTrainingJob", request={}))
    found = faults(
        shape,
        {
            "TrainingJobName": "-",
            "ResourceConfig": {"InstanceType": "ml.no.large", "KeepAlivePeriodInSeconds": 99999},
            "Tags": [{"Key": "a*", "Value": "é"}] * 51,
        },
    )
    assert [fault.partition(":")[0] for fault in found] == [
        ".TrainingJobName",
        ".ResourceConfig.InstanceType",
        ".ResourceConfig.KeepAlivePeriodInSeconds",
        *(f".Tags[{number}].Key" for number in range(51)),
        ".Tags",
    ]


def test_catalogue_is_that_of_botocore(model):
    """Members of the request and machines without accelerators, each of them and no other."""
    shape = model(CallApi(service="sagemaker", operation="CreateTrainingJob", request={}))
    assert set(facts().members) == set(shape.members)
    types = set(shape.members["ResourceConfig"].members["InstanceType"].enum)
    assert {name for name, (_, count) in machines().items() if not count} == {
        name for name in types if name[3] not in "pg" and not name.startswith("ml.trn")
    }


def test_members_that_are_added_stand_beside_those_of_the_document(made):
    """Mappings are put together, lists one after the other."""
    request = created(made(FURTHER)[0])
    assert request["AlgorithmSpecification"]["EnableSageMakerMetricsTimeSeries"] is True
    assert request["AlgorithmSpecification"]["ContainerEntrypoint"] == ["/bin/bash"]
    assert [channel["ChannelName"] for channel in request["InputDataConfig"]] == ["code", "disk"]
    assert request["Tags"] == [{"Key": "more", "Value": "1"}]


@pytest.mark.parametrize(
    ("words", "image"),
    [
        ((), "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch:2.13-cpu-amzn2023-sagemaker"),
        (
            ("target.region=cn-north-1", "target.torch=2.10", "target.instance_type=ml.g5.xlarge", "hardware=gpu"),
            "727897471807.dkr.ecr.cn-north-1.amazonaws.com.cn/pytorch-training:2.10-gpu-py313",
        ),
        (("target.image=mine:1",), "mine:1"),
        (
            ("hardware=auto", "target.instance_type=ml.g4dn.xlarge"),
            "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch:2.13-cu133-amzn2023-sagemaker",
        ),
    ],
)
def test_image_follows_from_region_version_and_device(made, words, image):
    """Amazon's image, in the account of the region, unless the job names one."""
    assert created(made(ONE, *words)[0])["AlgorithmSpecification"]["TrainingImage"] == image


def test_upload_is_what_the_script_unpacks(made):
    """Three files of the run's folder, under one prefix that is the channel `code`."""
    done, _ = made(FULL)
    places = {step.path[-1] for step in done.submit if isinstance(step, WriteFile | PackFiles)}
    puts = [filled(msgspec.to_builtins(step.request), VALUES) for step in calls(done) if step.operation == "PutObject"]
    assert {f"/{put['Key'].rpartition('/')[2]}" for put in puts} == places
    code = created(done)["InputDataConfig"][0]
    assert {f"s3://{put['Bucket']}/{put['Key'].rpartition('/')[0]}/" for put in puts} == {
        code["DataSource"]["S3DataSource"]["S3Uri"]
    }
    assert all(put["SSEKMSKeyId"].endswith("key/one") for put in puts)


def test_no_secret_stands_in_a_plan(made, monkeypatch):
    """Its name does; the value comes when the request is sent."""
    monkeypatch.setenv("TOKEN", "what-nobody-may-see")
    done, _ = made(FULL)
    assert "what-nobody-may-see" not in json.dumps(msgspec.to_builtins(done))
    assert created(done)["Environment"] == {"TOKEN": "secret"}


def test_machine_with_an_adapter_gets_its_variables(made):
    """Those of the Elastic Fabric Adapter, where the machines have one."""
    env = made(FULL)[0].nodes[0].commands[0].env
    assert (env["FI_PROVIDER"], env["SM_CHANNEL_HELD_OUT"]) == ("efa", "/opt/ml/input/data/held.out")
    assert "FI_PROVIDER" not in made(ONE)[0].nodes[0].commands[0].env


@pytest.mark.parametrize(("name", "render"), [("v3", render_v3), ("v2", render_v2)])
def test_file_for_the_sdk_is_the_committed_one(made, golden, name, render):
    """A change of what a person takes home is a review."""
    golden(GOLDEN / f"sagemaker_sdk_{name}.py.txt", render(made(FULL)[0]))


@pytest.mark.parametrize("form", ["sh", "sagemaker-sdk", "sagemaker-sdk-v2"])
def test_form_that_a_plan_does_not_have_is_a_finding(folder, jobc_command, form):
    """A shell has no calls of an API; each version of the SDK lacks some of the request; other plans are none for it."""
    (folder / "job.yaml").write_text(FURTHER)
    done = jobc_command("plan", "job.yaml", "--format", form)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "error[J349]" in done.stderr
    (folder / "job.yaml").write_text("script: train.py\n")
    assert jobc_command("plan", "job.yaml", "--format", form).returncode == (0 if form == "sh" else 2)


def test_run_is_refused_with_the_way_there_is(folder, jobc_command):
    """It can be planned, and not run yet; nor are its machines asked."""
    (folder / "job.yaml").write_text(ONE)
    for words in (("run", "job.yaml"), ("run", "-d", "job.yaml"), ("check", "--preflight", "job.yaml")):
        done = jobc_command(*words)
        assert done.returncode == 2
        assert "J409" in done.stdout + done.stderr
        assert "--format sagemaker-sdk" in done.stdout + done.stderr


def test_rendered_file_is_python(made, tmp_path):
    """Whatever strings a job holds."""
    hostile = FULL.replace('"it\'s $HOME"', json.dumps(HOSTILE))
    for render in (render_v3, render_v2):
        text = render(made(hostile)[0])
        compile(text, str(tmp_path / "file.py"), "exec")
