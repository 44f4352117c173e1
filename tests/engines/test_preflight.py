"""`jobc check --preflight`: what real machines say of themselves, and what speaks against running a job there."""

import json
import platform
import socket
import sys
from importlib import metadata
from pathlib import Path

import pytest

HERE = platform.python_version()


@pytest.fixture
def preflight(jobc_command):
    """Asks the machines of the job, with overrides; the exit code, errors and warnings by code, and the machines."""

    def run(*words, env=None):
        done = jobc_command("check", "--preflight", "--format", "json", "job.yaml", *words, env=env)
        assert done.stderr == ""
        said = json.loads(done.stdout)
        causes = [(found["code"], found["cause"]) for found in said["findings"] if found["severity"] != "hint"]
        return done.returncode, causes, said.get("machines")

    return run


@pytest.fixture
def shifted(folder):
    """A folder for PYTHONPATH with which Python on the second machine is changed by lines of code."""

    def write(lines):
        (folder / "sitecustomize.py").write_text(
            "import os\nif os.environ.get('SSH_CONNECTION', '').split()[2:3] == ['127.0.0.3']:\n"
            + "".join(f"    {line}\n" for line in lines.splitlines())
        )
        return folder

    return write


def test_two_machines_that_are_well(jobc_command, ssh_job):
    """One line for each, exit 0, and nothing is left there."""
    there = ssh_job("", "launcher: torchrun\n")
    done = jobc_command("check", "--preflight", "job.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["node", "machine", "python", "torch", "devices", "memory", "disk", "clock"]
    assert [line[:4] for line in lines[1:3]] == [
        [str(number), host, HERE, metadata.version("torch")] for number, host in enumerate(("n1", "n2"))
    ]
    assert done.stdout.endswith("job.yaml: ok\n")
    assert not there.exists()


def test_local_machine_is_asked_with_the_jobs_interpreter(folder, preflight):
    """The target `local`, its `setup` and its output that is none of ours."""
    (folder / "job.yaml").write_text(
        "script: train.py\nhardware: {kind: cpu, per_node: 2}\nsetup: [printf hello, export A=1]\n"
    )
    code, causes, (machine,) = preflight()
    assert (code, causes) == (0, [])
    assert (machine["host"], machine["said"]["python"], machine["said"]["gpus"]) == ("localhost", HERE, None)
    assert Path(machine["said"]["executable"]).samefile(sys.executable)


def test_processes_that_are_there_already_cannot_be_asked(folder, jobc_command):
    """The target `inherit` has no preflight, and that is said."""
    (folder / "job.yaml").write_text("script: train.py\ntarget: inherit\n")
    done = jobc_command("check", "--preflight", "job.yaml")
    assert done.returncode == 0
    assert "no machines that could be asked" in done.stdout


def test_machine_that_is_down_hides_no_other(preflight, ssh_job):
    """ssh's own words for the one that is down and the one that refuses the key, the report of the one that is well."""
    ssh_job("", hosts="[n1, nobody, stranger]")
    code, causes, machines = preflight()
    assert code == 2
    assert [name for name, _ in causes] == ["J420", "J420"]
    assert causes[0][1].startswith("nobody cannot be reached: ssh: connect to host 127.0.0.9 port 9")
    assert "stranger cannot be reached: " in causes[1][1]
    assert "Permission denied" in causes[1][1]
    assert [machine["here"] for machine in machines] == [True, False, False]


def test_machines_that_are_down_have_a_line_of_the_table(jobc_command, ssh_job):
    """The table shows that nothing is known of it."""
    ssh_job("", hosts="[nobody]")
    done = jobc_command("check", "--preflight", "job.yaml")
    assert done.returncode == 2
    assert done.stdout.splitlines()[1].split() == ["0", "nobody", *"------"]
    assert "error[J420]: nobody cannot be reached" in done.stdout


def test_missing_interpreter_is_named_once_for_each_machine(preflight, ssh_job):
    """The interpreter that the job names."""
    ssh_job("")
    code, causes, _ = preflight("python=/opt/none/python9")
    assert (code, causes) == (2, [("J421", f"{host} has no `/opt/none/python9`") for host in ("n1", "n2")])


def test_missing_interpreter_here_is_named(folder, preflight):
    """The same on this machine."""
    (folder / "job.yaml").write_text("script: train.py\npython: python9\n")
    code, causes, _ = preflight()
    assert (code, causes) == (2, [("J421", "localhost has no `python9`")])


def test_interpreter_that_does_not_work_is_quoted(folder, preflight):
    """It is there, and what it said last stands in the finding."""
    (folder / "broken").write_text("#!/bin/sh\necho 'libpython is gone' >&2\nexit 3\n")
    (folder / "broken").chmod(0o755)
    (folder / "job.yaml").write_text(f"script: train.py\npython: {folder}/broken\n")
    code, causes, _ = preflight()
    assert (code, causes) == (2, [("J421", "Python on localhost failed with exit code 3: libpython is gone")])


def test_missing_command_is_named(folder, preflight):
    """The job's own program, where it runs no Python."""
    (folder / "job.yaml").write_text("command: [trainer9, --fast]\n")
    code, causes, _ = preflight()
    assert (code, causes) == (2, [("J421", "localhost has no `trainer9`")])


def test_port_that_is_taken_counts_where_processes_meet(preflight, ssh_job):
    """The fixed port of the rendezvous, in use by this test, on the machine with the rendezvous' address."""
    ssh_job("")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, causes, _ = preflight(f"nodes.rendezvous.port={port}")
        assert (code, causes) == (
            2,
            [("J425", f"port {port}, where the processes meet, cannot be used on n1: Address already in use")],
        )
    assert preflight(f"nodes.rendezvous.port={port}")[:2] == (0, [])


def test_fewer_gpus_than_processes_are_an_error(folder, ssh_job, preflight):
    """More GPUs than any machine here has."""
    ssh_job("")
    code, causes, machines = preflight("hardware={kind: gpu, per_node: 1000}")
    found = [machine["said"]["gpus"] for machine in machines]
    assert code == 2
    assert [name for name, _ in causes] == ["J424", "J424"]
    assert f"the job asks for 1000 GPUs on each machine, and n1 has {found[0]}" in causes[0][1]


def test_setup_that_fails_is_quoted(folder, preflight):
    """The last words of the line, on this machine where the files are there."""
    (folder / "job.yaml").write_text("script: train.py\nsetup: [source env/activate]\n")
    code, causes, _ = preflight()
    assert code == 2
    assert causes[0][0] == "J428"
    assert causes[0][1].startswith("`setup` on localhost failed with exit code 1: ")
    assert "env/activate: No such file or directory" in causes[0][1]


def test_setup_that_needs_files_not_yet_copied_is_no_error(preflight, ssh_job, folder, jobc_command):
    """Before the first run a warning; after it the same lines are tried."""
    ssh_job("", "setup: ['. ./env.sh']\n", hosts="[n1]")
    (folder / "env.sh").write_text("export A=1\n")
    code, causes, _ = preflight()
    assert (code, [name for name, _ in causes]) == (0, ["J430"])
    assert jobc_command("run", "job.yaml").returncode == 0
    assert preflight()[:2] == (0, [])


def test_clock_that_is_wrong_is_an_error(preflight, ssh_job, shifted):
    """A second machine an hour ahead."""
    ssh_job("")
    there = shifted("import time\nreal = time.time\ntime.time = lambda: real() + 3600")
    code, causes, machines = preflight(f"+env.PYTHONPATH={there}")
    assert code == 2
    assert [name for name, _ in causes] == ["J426"]
    assert "the clock of n2 is 3600 s ahead of the one here" in causes[0][1] or "3599 s" in causes[0][1]
    assert abs(machines[0]["clock"]) < 60 < machines[1]["clock"]


@pytest.mark.parametrize(("version", "code", "exit_code"), [("2.4.0", "J422", 2), ("patch", "J423", 0)])
def test_other_torch_on_a_machine(preflight, ssh_job, shifted, tmp_path, version, code, exit_code):
    """Another minor version is an error, another patch a warning."""
    here = metadata.version("torch")
    if version == "patch":
        version = ".".join(here.split(".")[:2]) + ".99"
    about = tmp_path / "other" / f"torch-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
    ssh_job("")
    there = shifted(f"import sys\nsys.path.insert(0, {str(about.parent)!r})")
    found, causes, _ = preflight(f"+env.PYTHONPATH={there}")
    assert (found, causes) == (
        exit_code,
        [(code, f"torch is not the same everywhere: {here} on n1; {version} on n2")],
    )


def test_address_that_a_machine_does_not_know(preflight, ssh_job):
    """A name that only ssh's configuration has is no meeting place."""
    ssh_job("")
    code, causes, _ = preflight("nodes.rendezvous.address=n1.invalid")
    assert code == 2
    assert [name for name, _ in causes] == ["J429", "J429"]
    assert "n2 cannot look up `n1.invalid`" in causes[1][1]


def test_folder_that_cannot_be_written(preflight, ssh_job):
    """A file system that takes no files."""
    ssh_job("", hosts="[n1]")
    code, causes, _ = preflight("target.folder=/proc/jobc")
    assert (code, [name for name, _ in causes]) == (2, ["J427"])


def test_secret_reaches_setup_and_no_command_line(preflight, ssh_job):
    """A missing one is said before any machine is asked; one that is there comes over the connection's input."""
    ssh_job("", "secrets: [TOKEN_OF_MINE]\nsetup: ['test \"$TOKEN_OF_MINE\" = \"a b''$c\"']\n", hosts="[n1]")
    code, causes, machines = preflight()
    assert (code, [name for name, _ in causes], machines) == (2, ["J401"], None)
    assert preflight(env={"TOKEN_OF_MINE": "a b$c"})[0] == 0
