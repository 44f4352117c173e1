"""The table of Accelerate's keys: every key is there, and every path is one of the document."""

import dataclasses
import re
from pathlib import Path

import pytest
from jobc.spec.accelerate_keys import blocks
from jobc.spec.describe import fields_at

KEYS = [
    pytest.param(key, id=f"{block}.{name}") for block, found in blocks().items() for name, key in found.keys.items()
]
#: What stands before a key where it stands within a block of this name; the prefix of sharding may be left out.
PREFIXES = {"megatron_lm_config": "megatron_lm_", "parallelism_config": "parallelism_config_", "fp8_config": "fp8_"}


@pytest.mark.parametrize("key", KEYS)
def test_key_has_a_path_or_a_reason(key):
    """One of both: a path that a document has, or a sentence."""
    assert bool(key.path) != bool(key.why)
    assert not key.path or fields_at(key.path)
    for sentence in (key.why, key.note):
        assert not sentence or sentence.endswith(".")


def test_every_key_that_accelerate_has_is_in_the_table():
    """The classes that read its files, its wizard and its launcher know no other ones."""
    arguments = pytest.importorskip("accelerate.commands.config.config_args")
    said = {field.name for field in dataclasses.fields(arguments.ClusterConfig)}
    said |= {field.name for field in dataclasses.fields(arguments.SageMakerConfig)}
    found = blocks()
    assert said <= {*found["top"].keys, *found["sagemaker"].keys}
    folder = Path(arguments.__file__).parent
    wizard = (folder / "cluster.py").read_text()
    for block in ("deepspeed_config", "fsdp_config", "fp8_config", "mpirun_config"):
        names = set(re.findall(block + r'\["([a-z0-9_]+)"\]', wizard))
        assert names <= set(found[block].keys), block
    launch = (folder.parent / "launch.py").read_text()
    options = set(re.findall(r'"--(?:fp8_)?([a-z0-9_]+)"', launch))
    known = {name for block in found.values() for name in block.keys}
    known |= {f"{prefix}{name}" for block, prefix in PREFIXES.items() for name in found[block].keys}
    words = {"help", "multi_gpu", "tpu", "cpu", "tpu_cluster", "no_tpu_cluster", "format"}
    words |= {"positional", "training_script", "training_script_args"}
    words |= {f"use_{kind}" for kind in ("deepspeed", "fsdp", "megatron_lm", "parallelism_config")}
    assert options <= known | words, options - known - words
