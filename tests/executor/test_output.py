"""What a person sees of what the ranks write."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from jobc.compiler.plan import Output, Ref


def test_output_is_shown_while_the_job_runs(house):
    """A line is shown when it is written, not when the job ends."""
    run = house.drive(house.plan(house.python("print('early', flush=True); import time; time.sleep(600)")))
    run.until(b"[0] early\n")
    assert run.process.poll() is None
    run.process.terminate()
    assert run.end()[0] == 143


def test_output_keeps_streams_and_ranks_apart(house):
    """Stdout goes to stdout and stderr to stderr, each line with its rank; the files have them without."""
    text = "import sys; print('o'); print('e', file=sys.stderr)"
    outcome, out, err = house.run(house.plan(house.python(text), house.python(text, rank=1)))
    logs = outcome.run_dir / "logs"
    assert sorted(out.splitlines()) == [b"[0] o", b"[1] o"]
    assert sorted(err.splitlines()) == [b"[0] e", b"[1] e"]
    assert (logs / "rank_1.stdout.log").read_bytes() == b"o\n"
    assert (logs / "rank_1.stderr.log").read_bytes() == b"e\n"


def test_output_of_any_bytes_survives(house):
    """Bytes that are no UTF-8, very long lines and a last line without newline arrive complete."""
    text = "import os; os.write(1, b'\\xff\\x00\\xc3\\n'); [os.write(1, b'y' * 65536) for _ in range(64)]; os.write(1, b'\\nlast')"
    _, out, _ = house.run(house.plan(house.python(text)))
    assert out == b"[0] \xff\x00\xc3\n[0] " + b"y" * (64 * 65536) + b"\n[0] last\n"


def test_output_between_pieces_of_a_long_line_stays_readable(house):
    """A rank that writes while another is in the middle of a huge line gets a line of its own."""
    long = "import os\nfor _ in range(96): os.write(1, b'y' * 65536)"
    short = "import time\nfor i in range(20): print('short', i, flush=True); time.sleep(0.01)"
    _, out, _ = house.run(house.plan(house.python(long), house.python(short, rank=1)))
    lines = out.splitlines()
    assert [line for line in lines if b"short" in line] == [b"[1] short %d" % index for index in range(20)]
    assert sum(line.count(b"y") for line in lines) == 96 * 65536


def test_output_of_a_hundred_megabytes_needs_little_memory(house):
    """A loud job is shown completely without being held in memory."""
    text = "import os\nblock = b''.join(b'%060d\\n' % i for i in range(16384))\nfor _ in range(100): os.write(1, block)"
    run = house.drive(house.plan(house.python(text + "\nimport time; time.sleep(2)")))
    # The most that it ever held, read while it lives: what the system reports afterwards counts our own memory in.
    house.wait_for(lambda: run.out.stat().st_size == 100 * 16384 * len(b"[0] " + b"0" * 60 + b"\n"))
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{run.process.pid}/status").read_text())
    assert run.end()[0] == 0
    assert int(peak) < 100_000


def test_updates_on_a_pipe_leave_their_last_state(house):
    """A progress bar in a file is one line, not a thousand."""
    text = "import sys, time\nfor i in range(101): sys.stderr.write(f'\\r{i}%'); time.sleep(0.002)\nsys.stderr.write('\\ndone\\n')"
    _, _, err = house.run(house.plan(house.python(text)))
    assert err == b"[0] 100%\n[0] done\n"


def test_updates_on_a_terminal_redraw_their_line(house, terminal):
    """A progress bar on a terminal moves in place, and other lines go above it."""
    text = (
        "import os, sys, time\n"
        "def show(text, stream=sys.stderr):\n"
        "    stream.write(text); stream.flush()\n"
        "    while not os.path.exists(text.strip()): time.sleep(0.01)\n"
        "for step in range(3): show(f'\\rstep {step}')\n"
        "show('a line\\n', sys.stdout)\n"
        "show('\\rstep 3\\n')"
    )
    terminal.start(house.driver(house.plan(house.python(text))))
    for step in ("step 0", "step 1", "step 2", "a line"):
        terminal.until(b"[0] " + step.encode())
        (house.project / step).touch()
    (house.project / "step 3").touch()
    assert terminal.end() == 0
    erase = b"\r\x1b[K"
    assert terminal.shown.startswith(b"[0] step 0" + erase + b"[0] step 1" + erase + b"[0] step 2" + erase)
    assert b"[0] a line\r\n[0] step 2" + erase in terminal.shown
    assert terminal.shown.endswith(erase + b"[0] step 3\r\n")


def test_updates_wider_than_the_terminal_stay_in_one_row(house, terminal):
    """A line that would wrap cannot be redrawn, so it is cut until it is final."""
    text = (
        "import os, sys, time\nsys.stdout.write('w' * 500); sys.stdout.flush()\n"
        "while not os.path.exists('seen'): time.sleep(0.01)\nprint('!')"
    )
    terminal.start(house.driver(house.plan(house.python(text))))
    terminal.until(b"[0] www")
    (house.project / "seen").touch()
    assert terminal.end() == 0
    assert max(len(row) for row in terminal.shown.split(b"\r\x1b[K")[0].splitlines()) < 80
    assert terminal.shown.endswith(b"\r\x1b[K[0] " + b"w" * 500 + b"!\r\n")


def test_color_marks_the_rank_only_when_asked(house):
    """Colour is on the prefix alone."""
    plan = house.plan(house.python("print('x')"))
    assert house.run(plan, color=True)[1] == b"\x1b[31m[0]\x1b[0m x\n"


@pytest.mark.parametrize("output", ["capture", "inherit"])
def test_output_of_many_megabytes_through_a_pipe(house, output):
    """A slow reader gets everything."""
    plan = house.plan(house.python("for i in range(100000): print('%048d' % i)", output=output))
    shown = subprocess.run(house.driver(plan), stdout=subprocess.PIPE, check=True).stdout
    assert len(shown.splitlines()) == 100000


def test_job_outlives_the_reader_of_its_output(house):
    """When nobody reads any more the job goes on, and its files have everything."""
    text = "import time\nfor i in range(2000): print('x' * 200, flush=True)\nopen('done', 'w')"
    read, write = os.pipe()
    process = subprocess.Popen(house.driver(house.plan(house.python(text))), stdout=write, stderr=subprocess.DEVNULL)
    os.close(write)
    os.read(read, 10)
    os.close(read)
    assert process.wait(60) == 0
    assert (house.project / "done").exists()


def test_signal_ends_a_run_whose_reader_does_not_read(house):
    """A full pipe that nobody empties does not keep a run from being stopped."""
    text = "import os, time\nfor i in range(200): os.write(1, b'x' * 1000 + b'\\n')\nopen('full', 'w')\ntime.sleep(600)"
    read, write = os.pipe()
    process = subprocess.Popen(house.driver(house.plan(house.python(text))), stdout=write, stderr=subprocess.DEVNULL)
    os.close(write)
    house.wait_for((house.project / "full").exists)
    process.terminate()
    assert process.wait(60) == 143
    os.close(read)


def test_output_that_was_not_asked_for_stays_in_the_logs(house):
    """Some ranks and one stream are shown; the files have everything, and a failure is told all the same."""
    commands = [house.python("import sys; print('o'); print('e', file=sys.stderr)", rank=rank) for rank in range(3)]
    outcome, out, err = house.run(house.plan(*commands, output=Output(ranks=(0, 2), streams=("stdout",))))
    assert sorted(out.splitlines()) == [b"[0] o", b"[2] o"]
    assert err == b""
    assert (outcome.run_dir / "logs" / "rank_1.stderr.log").read_bytes() == b"e\n"
    failing = house.python("import sys; sys.exit('it was this')", rank=0)
    outcome, out, err = house.run(house.plan(failing, output=Output(streams=())))
    assert (outcome.exit_code, out) == (1, b"")
    assert b"  | it was this\n" in err


def test_output_of_workers_is_chosen_by_rank(house):
    """The files of torchrun's workers are shown for the ranks that were asked for."""
    text = "import os; print('rank', os.environ['RANK'])"
    _, out, _ = house.run(house.plan(house.torchrun(text), output=Output(ranks=(1,), prefix="worker {rank}: ")))
    assert out == b"worker 1: rank 1\n"


@pytest.mark.parametrize("prefix", ["{rank}| ", "", "\u2192", "{name} "])
def test_output_has_the_prefix_of_the_job(house, prefix):
    """Any text, with the rank or without it; in colour only what is to be seen."""
    command = house.python("print('a'); print('b')", rank=3)
    shown = prefix.replace("{rank}", "3")
    _, out, _ = house.run(house.plan(command, output=Output(prefix=prefix)))
    assert out.decode() == f"{shown}a\n{shown}b\n"
    _, out, _ = house.run(house.plan(command, output=Output(prefix=prefix)), color=True)
    words = shown.rstrip()
    mark = f"\x1b[34m{words}\x1b[0m{shown[len(words) :]}" if words else ""
    assert out.decode() == f"{mark}a\n{mark}b\n"


def test_output_in_one_stream_is_chosen_by_its_tags(house):
    """Lines that carry their ranks are chosen and marked anew; those of an agent are left; long lines stay whole."""
    text = (
        "import os, sys\nprint('[0] a\\n[1] b\\nan agent speaks\\n[0] ', end='', flush=True)\n"
        "for _ in range(40): os.write(1, b'y' * 65536)\n"
        "os.write(1, b'\\n[1] ')\nfor _ in range(40): os.write(1, b'z' * 65536)\nprint('\\n[1] c\\n[0] d')\n"
    )
    command = house.python(text, output="tagged")
    _, out, _ = house.run(house.plan(command, output=Output(ranks=(0,), prefix="<{rank}> ")))
    long = b"y" * (40 * 65536)
    assert out == b"<0> a\nan agent speaks\n<0> " + long + b"\n<0> d\n"


def test_logs_are_kept_in_the_folder_of_the_job(house):
    """Each run has a folder there; its own folder leads to it, and what cannot be made is a finding."""
    kept = Output(folder=(Ref("project_dir"), "/kept/", Ref("run_id")))
    outcome, _, _ = house.run(house.plan(house.python("print('here')"), output=kept))
    folder = house.project / "kept" / outcome.run_id
    assert (folder / "rank_0.stdout.log").read_bytes() == b"here\n"
    assert (outcome.run_dir / "logs").resolve() == folder
    (house.project / "file").write_text("")
    run = house.drive(house.plan(house.python(""), output=Output(folder=(Ref("project_dir"), "/file/", Ref("run_id")))))
    code, _, err = run.end()
    assert code == 2
    assert b"error[J404]: the folder of logs cannot be made" in err
    assert b"Traceback" not in err
