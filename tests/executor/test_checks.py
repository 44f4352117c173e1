"""What is refused before anything starts."""

import os
import socket
import subprocess
import sys

import msgspec
import pytest
from jobc.compiler.plan import Command
from jobc.spec.findings import FindingsError


def refused(house, plan, **settings):
    with pytest.raises(FindingsError) as caught:
        house.run(plan, **settings)
    return caught.value.findings


def test_missing_secrets_are_all_named(house):
    """Every secret that is not set is named at once, and no run is begun."""
    plan = house.plan(house.python("pass"), secrets=("JOBC_T_A", "JOBC_T_B", "JOBC_T_C"))
    found = refused(house, plan, env={"JOBC_T_B": "set", "JOBC_T_C": ""})
    assert [item.code for item in found] == ["J401", "J401"]
    assert "JOBC_T_A" in found[0].cause
    assert "JOBC_T_C" in found[1].cause
    assert not house.runs.exists()


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]
)
def test_port_in_use_names_its_holder(house, family, host):
    """A pinned port that somebody listens on is refused, with the process that has it."""
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.bind((host, 0))
        server.listen()
        port = server.getsockname()[1]
        [found] = refused(house, house.plan(house.python("pass"), ports=(port,)))
    assert found.code == "J402"
    assert f"port {port} " in found.cause
    assert f"process {os.getpid()} (" in found.cause


def test_free_port_is_no_finding(house):
    """A port that was used a moment ago is free."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
    assert house.run(house.plan(house.python("pass"), ports=(port,)))[0].exit_code == 0


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (("no-such-program-here",), "on PATH"),
        (("./nothing",), "no such file"),
        (("./data.txt",), "not an executable file"),
        (("/",), "not an executable file"),
        (("",), "empty"),
        ((), "empty"),
        (("a\0b",), "null byte"),
    ],
)
def test_program_that_cannot_start_is_refused(house, argv, why):
    """A program that is not there or not a program is a finding, not a traceback."""
    (house.project / "data.txt").write_text("x")
    [found] = refused(house, house.plan(Command(argv=argv, ranks=(0,))))
    assert found.code == "J403"
    assert why in found.cause


@pytest.mark.parametrize("output", ["inherit", "capture"])
def test_program_that_the_system_refuses_is_refused(house, output):
    """What only the start itself can tell (no interpreter, a null byte in an argument) is a finding too."""
    script = house.project / "bad.sh"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    good = house.python("import time; time.sleep(60)")
    [found] = refused(house, house.plan(good, Command(argv=("./bad.sh",), ranks=(1,), output=output)))
    [null] = refused(house, house.plan(Command(argv=(sys.executable, "a\0b"), ranks=(0,), output=output)))
    assert (found.code, null.code) == ("J403", "J403")
    assert house.survivors() == []


def test_folder_that_does_not_exist_is_refused(house):
    """A command whose folder is missing is not started somewhere else."""
    command = msgspec.structs.replace(house.python("pass"), cwd="nowhere")
    [found] = refused(house, house.plan(command))
    assert found.code == "J403"
    assert str(house.project / "nowhere") in found.cause


def test_everything_wrong_is_said_at_once(house):
    """A secret, a port and a program that are missing come together."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        command = Command(argv=("no-such-program-here",), ranks=(0,))
        plan = house.plan(command, secrets=("JOBC_T_A",), ports=(server.getsockname()[1],))
        assert [item.code for item in refused(house, plan)] == ["J401", "J402", "J403"]


def test_runs_folder_that_is_a_file_is_refused(house):
    """A run that cannot be recorded is not started."""
    house.runs.write_text("a file")
    [found] = refused(house, house.plan(house.python("pass")))
    assert found.code == "J404"
    assert str(house.runs) in found.cause


def test_step_that_cannot_write_is_refused_and_recorded(house):
    """A file of a step that cannot be written ends the run; its record does not stay `running`."""
    from jobc.compiler.plan import WriteFile
    from jobc.executor import load

    step = WriteFile(path="spec.json/below", content="x")
    [found] = refused(house, house.plan(house.python("pass"), before=(step,)))
    [run_dir] = house.runs.iterdir()
    assert found.code == "J404"
    assert load(run_dir).state == "failed"


def test_full_disk_is_refused(house):
    """A disk without room is said to be one."""
    disk = house.folder / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.call(["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(disk)]) != 0:
        pytest.skip("a small disk cannot be mounted here")
    try:
        (disk / "fill").write_bytes(b"x" * 4096)
        plan = house.plan(house.python("pass"), name="n" * 40, inputs={str(i): "x" * 1000 for i in range(60)})
        [found] = refused(house, plan, runs=disk / "runs")
        assert found.code == "J404"
        assert "No space left" in found.cause
    finally:
        subprocess.check_call(["umount", str(disk)])
