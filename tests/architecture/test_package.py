"""What is installed: the right files, the right names, and in CI the wheel itself."""

import os
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import jobc
import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WHEEL = os.environ.get("JOBC_TEST_INSTALL") == "wheel"


def test_public_names_are_these():
    """A name that appears or disappears is a decision."""
    assert jobc.__all__ == [
        "AORecipeKwargs",
        "Accelerator",
        "AcceleratorState",
        "AutocastKwargs",
        "BnbQuantizationConfig",
        "DDPCommunicationHookType",
        "DataLoaderConfiguration",
        "DeepSpeedPlugin",
        "DeepSpeedSequenceParallelConfig",
        "DistributedDataParallelKwargs",
        "DistributedType",
        "DummyOptim",
        "DummyScheduler",
        "FP8RecipeKwargs",
        "Finding",
        "FindingsError",
        "FullyShardedDataParallelPlugin",
        "GPTTrainStep",
        "GeneralTracker",
        "GradScalerKwargs",
        "GradientAccumulationPlugin",
        "InitProcessGroupKwargs",
        "JobcError",
        "LocalSGD",
        "LoggerType",
        "MSAMPRecipeKwargs",
        "MegatronLMDummyDataLoader",
        "MegatronLMDummyScheduler",
        "MegatronLMPlugin",
        "ParallelismConfig",
        "PartialState",
        "PrepareForLaunch",
        "ProfileKwargs",
        "ProjectConfiguration",
        "TERecipeKwargs",
        "TorchContextParallelConfig",
        "TorchDynamoPlugin",
        "TorchTensorParallelPlugin",
        "__version__",
        "avg_losses_across_data_parallel_group",
        "broadcast",
        "broadcast_object_list",
        "cpu_offload",
        "debug_launcher",
        "disk_offload",
        "dispatch_model",
        "extract_model_from_parallel",
        "find_executable_batch_size",
        "gather",
        "gather_object",
        "get_logger",
        "infer_auto_device_map",
        "init_empty_weights",
        "init_on_device",
        "is_cuda_available",
        "is_npu_available",
        "is_schedulefree_available",
        "is_torch_xla_available",
        "is_xpu_available",
        "load",
        "load_and_quantize_model",
        "load_checkpoint_and_dispatch",
        "load_checkpoint_in_model",
        "merge_fsdp_weights",
        "notebook_launcher",
        "on_main_process",
        "pad_across_processes",
        "patch_environment",
        "plan",
        "prepare_pippy",
        "reduce",
        "register_tracker_class",
        "release_memory",
        "run",
        "send_to_device",
        "set_seed",
        "skip_first_batches",
        "tqdm",
        "wait_for_everyone",
        "write_basic_config",
    ]
    assert set(jobc.__all__) <= set(dir(jobc))
    with pytest.raises(AttributeError, match="has no attribute 'accelerator'"):
        _ = jobc.accelerator


def test_public_names_are_found():
    """Every lazy name leads somewhere."""
    for name in jobc.__all__:
        assert getattr(jobc, name) is not None


def test_importing_jobc_imports_nothing_else():
    """`import jobc` is free."""
    code = "import sys; before = set(sys.modules); import jobc; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name.partition(".")[0] for name in eval(done.stdout)} <= {
        "jobc",
        "__future__",
        "typing",
        "importlib",
    } | set(sys.stdlib_module_names)


def test_tests_run_against_what_they_should():
    """In CI the package under test is the installed wheel, not the checkout."""
    if WHEEL:
        assert "site-packages" in jobc.__file__
        assert not jobc.__file__.startswith(str(ROOT / "spec"))
    else:
        assert Path(jobc.__file__).resolve().parent == ROOT


@pytest.mark.skipif(not WHEEL, reason="the wheel is tested with: make test INSTALL=wheel")
def test_wheel_holds_the_package_and_nothing_else():
    """Every source and data file of the packages, and no test, example or stray file of the root."""
    listed = {file.as_posix() for file in metadata.files("jobc") if ".dist-info/" not in file.as_posix()}
    listed = {name for name in listed if not name.startswith("..") and "__pycache__" not in name}
    expected = {"jobc/__init__.py", "jobc/__main__.py", "jobc/py.typed"}
    for folder in ("cli", "compiler", "executor", "runtime", "spec"):
        expected |= {f"jobc/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / folder).rglob("*.py")}
    for folder, ending in (
        ("schemas", "json"),
        ("spec", "toml"),
        ("templates", "j2"),
        ("templates", "py"),
        ("templates", "sh"),
        ("presets", "yaml"),
    ):
        expected |= {f"jobc/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / folder).rglob(f"*.{ending}")}
    assert listed == expected


@pytest.mark.skipif(not WHEEL, reason="the wheel is tested with: make test INSTALL=wheel")
def test_command_is_installed():
    """`jobc` is on the path of the environment."""
    done = subprocess.run([Path(sys.executable).with_name("jobc"), "--version"], capture_output=True, text=True)
    assert done.stdout == f"jobc {jobc.__version__}\n"


def test_root_holds_no_other_module():
    """Another .py file at the root would go into the wheel."""
    assert sorted(path.name for path in ROOT.glob("*.py")) == ["__init__.py", "__main__.py"]


def test_every_dependency_has_a_reason():
    """One line beside each dependency says why it is there."""
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    extras = PROJECT["project"]["optional-dependencies"].values()
    for requirement in [*PROJECT["project"]["dependencies"], *(item for extra in extras for item in extra)]:
        (line,) = (line for line in lines if f'"{requirement}"' in line)
        assert "# " in line, requirement


def test_constraints_pin_every_dependency():
    """What is tested together is pinned together."""
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    extras = PROJECT["project"]["optional-dependencies"].values()
    for requirement in [*PROJECT["project"]["dependencies"], *(item for extra in extras for item in extra)]:
        name = requirement.partition("[")[0].partition(">")[0].partition("=")[0].strip().lower()
        assert name in pinned, requirement
