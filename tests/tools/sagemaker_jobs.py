"""Jobs for `target: sagemaker`, and what Amazon's own description of an API finds wrong with a request."""

from __future__ import annotations

import re
from typing import Any

ROLE = "arn:aws:iam::123456789012:role/service-role/training"
ONE = f"""\
script: train.py
hardware: cpu
target:
  kind: sagemaker
  region: us-east-1
  role: {ROLE}
  instance_type: ml.m5.xlarge
  output: s3://bucket/runs
"""
#: Every setting that a request can carry at once.
FULL = f"""\
name: full
script: train.py
args: [--lr, "it's $HOME"]
hardware: {{kind: gpu, per_node: 8, model: h100}}
nodes: 2
secrets: [TOKEN]
env: {{GREETING: "a 'b' $c"}}
limits: {{minutes: 90.5}}
training: {{checkpoint: {{every_steps: 100, folder: states}}}}
target:
  kind: sagemaker
  region: eu-west-1
  role: {ROLE}
  instance_type: ml.p5.48xlarge
  output: s3://bucket/runs/of/mine/
  torch: 2.12
  volume_gb: 200
  spot: true
  max_wait_minutes: 120
  checkpoint_s3: s3://bucket/kept
  retries: 3
  channels: {{train: s3://bucket/data, "held.out": s3://bucket/more}}
  input_mode: FastFile
  subnets: [subnet-0a1b2c3d]
  security_groups: [sg-0a1b2c3d, sg-1a2b3c4d]
  network_isolation: true
  encrypt_traffic: true
  kms_key: arn:aws:kms:eu-west-1:123456789012:key/one
  tags: {{team: vision, "cost center": "é 7"}}
  metrics: {{loss: "loss=([0-9.]+)", "train:rate": "rate: (\\\\S+)"}}
  extra:
    HyperParameters: {{epochs: "3"}}
    InfraCheckConfig: {{EnableInfraCheck: true}}
    RemoteDebugConfig: {{EnableRemoteDebug: true}}
    SessionChainingConfig: {{EnableSessionTagChaining: true}}
"""
#: What only the API says, or a version of the SDK.
FURTHER = (
    ONE.replace("script: train.py", "name: further\nscript: train.py")
    + """\
  image: 123456789012.dkr.ecr.us-east-1.amazonaws.com/mine@sha256:0123
  keep_alive_minutes: 30
  max_pending_minutes: 45
  volume_kms_key: alias/disks
  extra:
    AlgorithmSpecification: {EnableSageMakerMetricsTimeSeries: true}
    ExperimentConfig: {ExperimentName: one, TrialName: first}
    InputDataConfig:
      - ChannelName: disk
        DataSource: {FileSystemDataSource: {FileSystemId: fs-0123abcd, FileSystemAccessMode: ro, FileSystemType: EFS, DirectoryPath: /data}}
    Tags: [{Key: more, Value: "1"}]
"""
)
JOBS = {"one": ONE, "full": FULL, "further": FURTHER}


def filled(value: Any, values: dict[str, str]) -> Any:
    """A request as it is sent, with a value for each placeholder and the content of files left out."""
    if isinstance(value, dict) and set(value) == {"text"}:
        return "".join(
            part if isinstance(part, str) else values[part.get("name") or part["ref"]] for part in value["text"]
        )
    if isinstance(value, dict) and set(value) == {"file"}:
        return b""
    if isinstance(value, dict):
        return {name: filled(item, values) for name, item in value.items()}
    return [filled(item, values) for item in value] if isinstance(value, list | tuple) else value


def faults(shape: Any, value: Any, path: str = "") -> list[str]:
    """Enums, patterns and limits of botocore's model that a value breaks; its validator looks at names and types only."""
    limits, found = shape.metadata, []
    match shape.type_name:
        case "structure":
            return [
                fault for name, item in value.items() for fault in faults(shape.members[name], item, f"{path}.{name}")
            ]
        case "list":
            found = [
                fault for number, item in enumerate(value) for fault in faults(shape.member, item, f"{path}[{number}]")
            ]
        case "map":
            for name, item in value.items():
                found += faults(shape.key, name, f"{path} key") + faults(shape.value, item, f"{path}.{name}")
        case "string":
            if value not in (getattr(shape, "enum", None) or [value]):
                found.append(f"{path}: {value} is none of its words")
            if not re.fullmatch(_python(limits.get("pattern", r"[\s\S]*")), value):
                found.append(f"{path}: {value} is not {limits['pattern']}")
        case "boolean" | "blob":
            return []
    size = value if isinstance(value, int | float) else len(value)
    if not limits.get("min", size) <= size <= limits.get("max", size):
        found.append(f"{path}: {size} is not from {limits.get('min')} to {limits.get('max')}")
    return found


def _python(pattern: str) -> str:
    """A pattern of Java for Python: letters and digits by their Unicode classes."""
    for java, python in {r"\p{L}": r"\w", r"\p{N}": r"\d", r"\p{Z}": r"\s", r"\p{Alnum}": "A-Za-z0-9"}.items():
        pattern = pattern.replace(java, python)
    return pattern
