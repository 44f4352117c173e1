"""What each launcher starts: whole commands as expected values."""

import json
from pathlib import Path

import pytest
from jobc.compiler.launchers.deepspeed_nodes import STARTERS
from jobc.compiler.plan import Ref, WriteFile
from jobc.compiler.quoting import plain, shown, shown_argv
from jobc.spec import FindingsError

GOLDEN = Path(__file__).parent / "golden"

PYTHON = (Ref("python"),)
SPEC = (Ref("run_dir"), "/spec.json")


def commands(plan):
    return plan.nodes[0].commands


def test_one_process_is_started_directly(planned):
    """One process keeps the terminal and needs nothing but its spec."""
    (command,) = commands(planned("script: train.py\nargs: [--epochs, 3]\n"))
    assert command.argv == (PYTHON, "train.py", "--epochs", "3")
    assert dict(command.env) == {"JOBC_SPEC": SPEC}
    assert (command.output, command.cwd) == ("inherit", (Ref("project_dir"),))


def test_several_processes_are_started_by_torchrun(planned):
    """One agent, standalone, the script behind `--`."""
    (command,) = commands(planned("script: train.py\nargs: [--n, 3]\nhardware: {kind: cpu, per_node: 2}\n"))
    assert command.argv[:5] == (PYTHON, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    assert command.argv[-4:] == ("--", "train.py", "--n", "3")
    assert ("--log-dir=", Ref("run_dir"), "/logs") in command.argv
    assert dict(command.env) == {"PYTHONUNBUFFERED": "1", "JOBC_SPEC": SPEC, "OMP_NUM_THREADS": "1"}
    assert (command.ranks, command.title) == ((0, 1), "torchrun")


def test_python_launcher_writes_out_the_ranks(planned):
    """Several processes without an agent: each command has its place in the world."""
    first, second = commands(planned("script: train.py\nlauncher: python\nhardware: {kind: cpu, per_node: 2}\n"))
    assert (first.argv, first.ranks, second.ranks) == ((PYTHON, "train.py"), (0,), (1,))
    assert dict(second.env) == {
        "RANK": "1",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": (Ref("port"),),
        "PYTHONUNBUFFERED": "1",
        "JOBC_SPEC": SPEC,
        "OMP_NUM_THREADS": "1",
    }


@pytest.mark.parametrize("launcher", ["python", "torchrun"])
def test_pinned_port_is_used_and_checked(planned, launcher):
    """A port that the document names is where the processes meet, and must be free."""
    plan = planned(
        "script: train.py\nhardware: {kind: cpu, per_node: 2}\nnodes: {rendezvous: {port: 4321}}\n",
        f"launcher={launcher}",
    )
    command = commands(plan)[0]
    texts = [*command.argv, *command.env.values()]
    assert any("4321" in text for text in texts if isinstance(text, str))
    assert plan.submit[1].ports == (4321,)


def test_restarts_are_torchruns(planned):
    """What the document says about restarts is the agent's option."""
    text = "script: train.py\nhardware: {kind: cpu, per_node: 2}\nnodes: {max_restarts: 3}\n"
    assert "--max-restarts=3" in commands(planned(text))[0].argv
    assert not any("--max-restarts" in word for word in commands(planned(text, "nodes.max_restarts=0"))[0].argv)
    assert "--max-restarts=3" in commands(planned(text, "hardware.per_node=1", "launcher=torchrun"))[0].argv


def test_torchrun_arguments_are_protected(planned):
    """torchrun reads `$$` as `$`, so every `$` is doubled on the way in."""
    plan = planned("script: train.py\nargs: ['$HOME', '$$', --, '$(x)']\nhardware: {kind: cpu, per_node: 2}\n")
    assert commands(plan)[0].argv[-5:] == ("train.py", "$$HOME", "$$$$", "--", "$$(x)")


@pytest.mark.parametrize(
    ("text", "one", "two"),
    [
        ("module: pkg.train\nargs: [a]\n", (PYTHON, "-m", "pkg.train", "a"), ("--module", "--", "pkg.train", "a")),
        ("command: [./go, a]\n", ("./go", "a"), ("--no-python", "--", "./go", "a")),
    ],
)
def test_modules_and_programs_run_too(planned, text, one, two):
    """Not every job is a script."""
    assert commands(planned(text))[0].argv == one
    assert commands(planned(text, "hardware.per_node=2"))[0].argv[-len(two) :] == two


def test_threads_of_the_document_win(planned):
    """The derived number of threads gives way to a written one, and to the variable itself."""
    text = "script: train.py\nhardware: {kind: cpu, per_node: 2, threads_per_process: 3}\n"
    assert commands(planned(text))[0].env["OMP_NUM_THREADS"] == "3"
    text = "script: train.py\nhardware: {kind: cpu, per_node: 2}\nenv: {OMP_NUM_THREADS: 5}\n"
    assert commands(planned(text))[0].env["OMP_NUM_THREADS"] == "5"


def test_workdir_moves_the_start_not_the_script(planned, folder):
    """The script stays where the document says, the processes start elsewhere."""
    (folder / "data").mkdir()
    (command,) = commands(planned("script: train.py\nworkdir: data\n"))
    assert (command.argv[1], command.cwd) == ("../train.py", (Ref("project_dir"), "/data"))


@pytest.mark.parametrize("words", [(), ("hardware.per_node=2",), ("hardware.per_node=2", "launcher=python")])
def test_setup_runs_before_the_processes_in_their_shell(planned, words):
    """One bash that the command takes the place of, so that signals and exit codes are the command's."""
    text = "script: train.py\nhardware: {kind: cpu}\nsetup: [module load x, export A=$HOME]\n"
    for command in commands(planned(text, *words)):
        assert command.argv[:4] == (
            "bash", "-c", 'set -e\nmodule load x\nexport A=$HOME\nexec "$@"', "jobc-setup",
        )  # fmt: skip
        assert command.argv[4] == (Ref("python"),)


def test_interpreter_of_the_document_is_used(planned):
    """By name, so that the one of an activated environment is found."""
    assert commands(planned("script: train.py\npython: python3\n"))[0].argv == ("python3", "train.py")
    assert commands(planned("script: train.py\npython: python3\nhardware: {per_node: 2}\n"))[0].argv[0] == "python3"


def test_options_of_the_launcher_stand_before_the_script(planned):
    """As written, after what the plan sets."""
    text = "script: train.py\nhardware: {kind: cpu, per_node: 2}\nlauncher_args: [--event-log-handler, a b]\n"
    assert commands(planned(text))[0].argv[-4:] == ("--event-log-handler", "a b", "--", "train.py")


def test_chosen_gpus_are_the_visible_ones(planned):
    """As many processes as GPUs, by the number that each has on the machine."""
    (command,) = commands(planned("script: train.py\nhardware: {kind: gpu, ids: [6, 2]}\n"))
    assert command.env["CUDA_VISIBLE_DEVICES"] == "6,2"
    assert "--nproc-per-node=2" in command.argv


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("hardware: {kind: gpu, per_node: 3, ids: [1, 2]}\n", "J312"),
        ("hardware: {kind: gpu, ids: [1, 1]}\n", "J312"),
        ("hardware: {kind: gpu, ids: [1, 2]}\nenv: {CUDA_VISIBLE_DEVICES: '0'}\n", "J312"),
        ("hardware: {kind: cpu, per_node: 2}\nlauncher_args: [--nnodes=3]\n", "J311"),
        ("hardware: {kind: cpu, per_node: 2}\nlauncher_args: [--max_restarts, '3']\n", "J311"),
        ("launcher_args: [--start-method=x]\n", "J311"),
        ('setup: ["a\\0b"]\n', "J106"),
    ],
)
def test_what_is_said_twice_or_to_nobody_is_refused(planned, text, code):
    """Devices named in two ways, options that the job has fields for, options of a launcher that has none."""
    with pytest.raises(FindingsError) as caught:
        planned("script: train.py\n" + text)
    assert [finding.code for finding in caught.value.findings] == [code]


@pytest.mark.parametrize("starter", STARTERS)
def test_machines_of_a_hostfile_are_started_by_the_deepspeed_command(planned, folder, golden, starter):
    """One command with the files that it needs: machines and variables are those of the job, whatever starts them."""
    (folder / "hosts").write_text("# of the cluster\nn1 slots=8\nn2 slots=8 # the second\nn3 slots=8\n")
    plan = planned(
        "script: train.py\nargs: [--n, 'a b', $x]\nhardware: {kind: gpu, per_node: 2}\nenv: {A: 'b \"c\" 100%'}\n"
        f"paradigm: {{kind: deepspeed, multinode_launcher: {starter}, hostfile: hosts, exclude: n2,"
        " multinode_args: [-a, b c]}\n"
    )
    (command,) = commands(plan)
    written = [(shown(step.path), plain(step.content)) for step in plan.submit if isinstance(step, WriteFile)][1:]
    lines = [shown_argv(command.argv), *(f"{name}={shown(value)}" for name, value in command.env.items())]
    lines += [f"\n{path}:\n{text}" for path, text in written]
    golden(GOLDEN / f"deepspeed_{starter}.txt", "\n".join(lines) + "\n")
    assert (command.ranks, plan.processes) == ((0, 1, 2, 3), 4)


def test_devices_by_their_numbers_are_pdshs(planned, folder):
    """As the hostfile's filters choose them."""
    (folder / "hosts").write_text("n1 slots=4\nn2 slots=4\n")
    text = "script: train.py\nhardware: gpu\nparadigm: {kind: deepspeed, multinode_launcher: pdsh, hostfile: hosts}\n"
    (command,) = commands(planned(text, "paradigm.include='n1:1,3@n2:0,2'"))
    assert "--include=n1:1,3@n2:0,2" in command.argv


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("precision: bf16\n", {"bf16": {"enabled": True}}),
        (
            "precision: {kind: fp16, initial_scale: 1024, growth_interval: 50}\n",
            {"fp16": {"enabled": True, "loss_scale": 0, "initial_scale_power": 10, "loss_scale_window": 50}},
        ),
        ("training: {gradient_clipping: 0.5}\n", {"gradient_clipping": 0.5}),
        ("training: {gradient_accumulation: 4}\n", {"gradient_accumulation_steps": 4}),
        ("training: {micro_batch: 8}\n", {"train_micro_batch_size_per_gpu": 8}),
    ],
)
def test_configuration_of_deepspeed_says_what_the_job_says(planned, more, said):
    """In DeepSpeed's words; nothing that the job leaves out."""
    plan = planned(
        "script: train.py\nhardware: {kind: gpu, per_node: 2}\nlauncher: deepspeed\n"
        f"paradigm: {{kind: deepspeed, config_argument: --deepspeed_config}}\n{more}"
    )
    usual = {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": 1,
        "zero_optimization": {"stage": 2},
        "zero_allow_untested_optimizer": True,
    }
    assert json.loads(plan.submit[1].content) == usual | said
    assert commands(plan)[0].argv[-2:] == ("--deepspeed_config", (Ref("run_dir"), "/deepspeed.json"))


def test_configuration_of_deepspeed_comes_along_where_no_disk_is_shared(planned):
    """The command of each machine writes it."""
    plan = planned(
        "script: train.py\nhardware: {kind: gpu, per_node: 2}\nlauncher: deepspeed\ntraining: {micro_batch: 8}\n"
        "paradigm: {kind: deepspeed, config_argument: --deepspeed_config}\ntarget: {kind: ssh, hosts: [n1, n2]}\n"
    )
    assert "train_micro_batch_size_per_gpu" in "".join(
        part for part in commands(plan)[0].stdin if isinstance(part, str)
    )


@pytest.mark.parametrize(
    ("hardware", "ends"),
    [
        ("type: v6e-8, runtime: spmd", ("train.py",)),
        ("type: v6e-8, runtime: torch_xla", ("train.py",)),
        ("type: v6e-8", ("--redirects=3", ("--log-dir=", Ref("run_dir"), "/logs"), "--", "train.py")),
    ],
)
def test_processes_of_tpus_are_started_as_their_library_wants(planned, hardware, ends):
    """One that sees all devices, a parent of one for each, or torchrun."""
    (command,) = commands(planned(f"script: train.py\nhardware: {{kind: tpu, {hardware}}}\n"))
    assert command.argv[-len(ends) :] == ends
    assert command.env.get("XLA_USE_SPMD") == ("1" if "spmd" in hardware else None)
    assert command.env.get("PJRT_DEVICE") == (None if hardware == "type: v6e-8" else "TPU")


def test_processes_of_torch_tpu_have_the_place_that_it_finds(planned):
    """On several machines the number of a machine follows from where its chips are, not from the order of hosts."""
    hosts = ", ".join(f"n{number}" for number in range(4))
    text = f"script: train.py\nhardware: {{kind: tpu, type: v6e-16}}\ntarget: {{kind: ssh, hosts: [{hosts}]}}\n"
    script = "".join(part for part in commands(planned(text))[0].stdin if isinstance(part, str))
    assert 'PET_NODE_RANK="$NODE_RANK"' in script
    assert "--nproc-per-node=4" in script
    assert "--node-rank" not in script
