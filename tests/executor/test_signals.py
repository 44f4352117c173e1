"""Ctrl-C, TERM and HUP: passed on once, waited for, and nothing left behind."""

import os
import signal
import subprocess
import threading
from pathlib import Path

import jobc.executor
import pytest
from jobc.executor.interrupts import Interrupts

WAIT = "import time\nprint('ready', flush=True)\ntime.sleep(600)"
ALL = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.mark.parametrize(("number", "code"), ALL)
def test_signal_stops_captured_commands(house, number, code):
    """The exit code is 128 and the signal, the record says stopped, and no process is left."""
    run = house.drive(house.plan(house.python(WAIT), house.python(WAIT, rank=1)))
    house.wait_for(lambda: run.out.read_bytes().count(b"ready") == 2)
    run.process.send_signal(number)
    found, _, err = run.end()
    record = jobc.executor.load(run.run_dir)
    assert (found, record.state, record.exit_code) == (code, "stopped", code)
    assert err.endswith(f"jobc: stopped by {number.name}\n".encode())
    assert b"jobc/executor" not in err
    assert house.survivors() == []


@pytest.mark.parametrize(("number", "code"), ALL)
def test_signal_stops_torchrun(house, number, code):
    """torchrun is asked to end and ends its workers."""
    text = (
        "import os, signal, sys, time\n"
        "for s in (1, 2, 15): signal.signal(s, lambda n, _: (print('got', n, flush=True), sys.exit(0)))\n"
        "print('ready', flush=True)\ntime.sleep(600)"
    )
    run = house.drive(house.plan(house.torchrun(text)))
    house.wait_for(lambda: run.out.read_bytes().count(b"ready") == 2)
    run.process.send_signal(number)
    found, out, _ = run.end()
    assert found == code
    assert sorted(out.splitlines())[:2] == [b"[0] got %d" % number, b"[0] ready"]
    assert house.survivors() == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_signal_stops_a_command_with_our_terminal(house, number, code):
    """A command that inherits gets the signal from jobc when no terminal sent it."""
    run = house.drive(house.plan(house.python(WAIT, output="inherit")))
    run.until(b"ready")
    run.process.send_signal(number)
    assert run.end()[0] == code
    assert jobc.executor.load(run.run_dir).state == "stopped"


def test_second_signal_ends_at_once(house):
    """Who asks twice does not wait for the grace period."""
    text = "import signal, time\nsignal.signal(2, lambda *_: print('no', flush=True))\nprint('ready', flush=True)\nwhile True: time.sleep(1)"
    run = house.drive(house.plan(house.python(text)), grace=600)
    run.until(b"ready")
    run.process.send_signal(signal.SIGINT)
    run.until(b"no")
    run.process.send_signal(signal.SIGINT)
    assert run.end()[0] == 130
    assert house.survivors() == []


def test_grace_ends(house):
    """One that ignores the request is killed after the grace period, with everything it started."""
    text = (
        "import signal, subprocess, sys, time\nsignal.signal(15, signal.SIG_IGN)\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        "print('ready', flush=True)\ntime.sleep(600)"
    )
    run = house.drive(house.plan(house.python(text)), grace=0.3)
    run.until(b"ready")
    run.process.send_signal(signal.SIGTERM)
    assert run.end()[0] == 143
    assert house.survivors() == []


def test_terminal_interrupt_reaches_the_command_once(house, terminal):
    """Ctrl-C at a terminal arrives once, and nothing but the command itself says a word."""
    text = (
        "import signal, sys, time\n"
        "def got(*_):\n    print('got', flush=True)\n"
        "signal.signal(2, got)\nprint('ready', flush=True)\nsys.stdin.readline()\nprint('went on')"
    )
    terminal.start(house.driver(house.plan(house.python(text, output="inherit"))))
    terminal.until(b"ready")
    for times in (1, 2):
        terminal.type(b"\x03")
        terminal.until(b"got", times)
    terminal.type(b"\n")
    assert terminal.end() == 0
    assert terminal.shown.count(b"got") == 2
    assert b"went on" in terminal.shown


def test_terminal_interrupt_ends_a_plain_script_like_python(house, terminal):
    """A script that does not handle Ctrl-C ends with its own traceback, not jobc's, and 130."""
    terminal.start(house.driver(house.plan(house.python(WAIT, output="inherit"))))
    terminal.until(b"ready")
    terminal.type(b"\x03")
    assert terminal.end() == 130
    assert terminal.shown.count(b"KeyboardInterrupt") == 1
    assert terminal.shown.count(b"Traceback") == 1
    [run_dir] = house.runs.iterdir()
    assert jobc.executor.load(run_dir).state == "stopped"


def test_kill_in_the_foreground_of_a_terminal_is_passed_on(house, terminal):
    """An interrupt that somebody sends to jobc alone reaches the command, though a terminal is there."""
    terminal.start(house.driver(house.plan(house.python(WAIT, output="inherit"))))
    terminal.until(b"ready")
    terminal.signal(signal.SIGINT)
    assert terminal.end() == 130


def test_terminal_interrupt_stops_captured_commands(house, terminal):
    """Commands in sessions of their own do not see the terminal's Ctrl-C; jobc passes it on."""
    terminal.start(house.driver(house.plan(house.python(WAIT), house.python(WAIT, rank=1))))
    terminal.until(b"[1] ready")
    terminal.type(b"\x03")
    assert terminal.end() == 130
    assert b"jobc: stopped by SIGINT" in terminal.shown
    assert house.survivors() == []


def test_debugger_works_at_a_terminal(house, terminal):
    """pdb has the terminal: it prompts, takes an interrupt and goes on."""
    terminal.start(house.driver(house.plan(house.python("x = 41\nbreakpoint()\nprint('x is', x)", output="inherit"))))
    terminal.until(b"(Pdb) ")
    terminal.type(b"x += 1\n")
    terminal.until(b"x += 1\r\n(Pdb) ")
    terminal.type(b"c\n")
    assert terminal.end() == 0
    assert b"x is 42" in terminal.shown


def test_ignored_signal_stays_ignored(house):
    """Under nohup a hang-up ends neither jobc nor the job."""
    text = "import os, time\nprint('ready', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)"
    argv = house.driver(house.plan(house.python(text)))
    process = subprocess.Popen(
        ["nohup", *argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b"[0] ready\n"
    process.send_signal(signal.SIGHUP)
    (house.project / "go").touch()
    process.communicate()
    assert process.returncode == 0


def test_handlers_and_mask_are_restored(house):
    """After a run the caller's handlers are its own again, and no signal is blocked."""
    before = [signal.getsignal(number) for number, _ in ALL]
    for output in ("capture", "inherit"):
        house.run(house.plan(house.python("pass", output=output)))
    assert [signal.getsignal(number) for number, _ in ALL] == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


def test_descriptors_are_given_back(house):
    """A run leaves no descriptor open."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for output in ("capture", "inherit"):
        house.run(house.plan(house.python("pass", output=output), house.python("pass", rank=1, output=output)))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("output", ["capture", "inherit"])
@pytest.mark.parametrize("environment", ["None", "{}"])
def test_daemon_of_a_rank_does_not_survive(house, output, environment):
    """A process that left its session, its parent and even its environment is ended when the run is."""
    text = (
        "import os, subprocess, sys\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        f"    p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], env={environment},\n"
        "        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "    open('daemon.part', 'w').write(str(p.pid)); os.rename('daemon.part', 'daemon')\n"
        "    os._exit(0)\n"
        "os.wait()"
    )
    run = house.drive(house.plan(house.python(text, output=output)))
    assert run.end()[0] == 0
    assert not Path("/proc", (house.project / "daemon").read_text()).exists()


def test_killed_executor_takes_its_commands_along(house):
    """When jobc itself is killed, what it started directly is asked to end, and torchrun ends its workers."""
    run = house.drive(house.plan(house.torchrun(WAIT)))
    house.wait_for(lambda: run.out.read_bytes().count(b"ready") == 2)
    run.process.kill()
    run.process.wait()
    house.wait_for(lambda: house.survivors() == [])
    record = jobc.executor.load(run.run_dir)
    assert record.state == "running"
    assert not jobc.executor.alive(record)


def test_end_is_seen_though_another_thread_takes_its_signal():
    """A program with threads may use jobc: the kernel tells whichever thread listens that a child has ended."""
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    try:
        with Interrupts() as interrupts, interrupts.held(), subprocess.Popen(["true"]) as child:
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            interrupts.wait(None)
            assert child.poll() == 0
    finally:
        done.set()
        other.join()
