"""What each launcher starts: whole commands as expected values."""

import pytest
from jobc.compiler.plan import Ref
from jobc.spec import FindingsError

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
