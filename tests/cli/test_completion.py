"""Completion in real shells: what a TAB makes of a line, and how fast its ingredients are."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

INSTALL = "apt-get install -y zsh fish   (make engines)"
SHELLS = ["bash", "zsh", "fish"]


@pytest.fixture
def place(folder):
    """A folder with a job, a group file and a `jobc` on the path."""
    (folder / "job.yaml").write_text("script: train.py\n")
    (folder / "other job.toml").write_text('script = "train.py"\n')
    (folder / "notes.txt").write_text("")
    (folder / "hardware").mkdir()
    (folder / "hardware" / "dgx.yaml").write_text("kind: gpu\nper_node: 8\n")
    bin_ = folder.parent / "bin"
    bin_.mkdir()
    (bin_ / "jobc").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m jobc "$@"\n')
    (bin_ / "jobc").chmod(0o755)
    return folder


def environment(place):
    keep = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    path = f"{place.parent / 'bin'}:{os.environ['PATH']}"
    return {**keep, "PATH": path, "HOME": str(place.parent), "TERM": "dumb", "COLUMNS": "200", "LC_ALL": "C.UTF-8"}


@pytest.fixture
def ask(jobc_command, place):
    """The candidates for a line, as the scripts ask for them."""

    def run(line, shell="fish", **env):
        done = jobc_command(env={"_JOBC_COMPLETE": f"{shell}_complete", "COMP_LINE": line, **env})
        assert (done.returncode, done.stderr) == (0, "")
        return [row.partition("\t")[0] for row in done.stdout.splitlines() if row]

    return run


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("jobc exp", ["explain"]),
        ("jobc plan --for", ["--format"]),
        ("jobc plan --format ", ["text", "json", "sh", "sagemaker-sdk", "sagemaker-sdk-v2"]),
        ("jobc check job.yaml --format g", ["github"]),
        ("jobc completion ", ["bash", "zsh", "fish"]),
        ("jobc plan ", ["hardware/", "job.yaml", "other job.toml"]),
        ("jobc plan ./jo", ["./job.yaml"]),
        ("jobc plan job.yaml tra", ["training."]),
        ("jobc plan job.yaml training.sch", ["training.scheduler."]),
        ("jobc plan job.yaml training.scheduler.", ["training.scheduler.step="]),
        (
            "jobc plan job.yaml training.scheduler.step=",
            [f"training.scheduler.step={w}" for w in ("optimizer_step", "per_process")],
        ),
        ("jobc plan job.yaml prec", ["precision=", "precision."]),
        ("jobc plan job.yaml precision=b", ["precision=bf16"]),
        ("jobc plan job.yaml paradigm.sta", ["paradigm.static_graph="]),
        ("jobc plan job.yaml paradigm.static_graph=", ["paradigm.static_graph=true", "paradigm.static_graph=false"]),
        ("jobc plan job.yaml nodes=1 ~env", ["~env"]),
        ("jobc plan job.yaml ++training.se", ["++training.seed="]),
        ("jobc plan job.yaml hardware=d", ["hardware=dgx"]),
        ("jobc plan job.yaml precision=bf16,f", ["precision=bf16,fp16", "precision=bf16,fp8"]),
        ("jobc plan job.yaml script=tr", ["script=train.py"]),
        ("jobc plan job.yaml nothing.at.all=", []),
        ("jobc explain parad", ["paradigm"]),
        ("jobc explain training.s", ["training.seed", "training.scheduler"]),
        ("jobc explain J10", [f"J10{n}" for n in range(1, 10)]),
        ("jobc explain job.yaml precision=f", ["precision=fp16", "precision=fp8"]),
        ("X=1 jobc run 'oth", ["other job.toml"]),
    ],
)
def test_candidates_for_a_line(ask, line, expected):
    """Commands, options, job files, paths and their values."""
    assert ask(line) == expected


def test_bash_gets_what_follows_its_word_breaks(ask):
    """bash replaces only what stands behind the last `=`, unless the word is quoted or `=` breaks no words."""
    line = "jobc plan job.yaml precision=b"
    assert ask(line, "bash", _JOBC_BREAKS=" =:") == ["bf16 "]
    assert ask(line, "bash", _JOBC_BREAKS=" ") == ["precision=bf16 "]
    assert ask("jobc plan job.yaml 'precision=b", "bash", _JOBC_BREAKS=" =:") == ["precision=bf16"]
    assert ask("jobc plan oth", "bash", _JOBC_BREAKS=" =:") == ["other\\ job.toml "]


def test_unknown_command_is_no_traceback(ask):
    """What the line says may be wrong; completing it may not fail."""
    assert "plan" in ask("jobc nonsense ")


@pytest.mark.parametrize("shell", SHELLS)
def test_script_is_one_that_the_shell_reads(jobc_command, shell, place):
    """The shell finds no fault with its script."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed: {INSTALL}")
    done = jobc_command("completion", shell)
    assert done.returncode == 0
    (place / "script").write_text(done.stdout)
    read = subprocess.run([shell, "-n", "script"], capture_output=True, text=True)
    assert (read.returncode, read.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("fish") is None, reason=f"fish is not installed: {INSTALL}")
def test_fish_completes(place):
    """fish itself says what it would offer."""
    lines = ["jobc plan job.yaml launcher=", "jobc plan job.yaml training.sch", "jobc expl", "echo x; jobc plan jo"]
    code = "jobc completion fish | source; " + "; ".join(f'complete -C "{line}"; echo ===' for line in lines)
    done = subprocess.run(
        ["fish", "--no-config", "-c", code], cwd=place, env=environment(place), capture_output=True, text=True
    )
    answers = [
        [row.partition("\t")[0] for row in part.splitlines() if row]
        for part in done.stdout.split("===\n")[: len(lines)]
    ]
    assert answers == [
        [f"launcher={word}" for word in ("auto", "deepspeed", "python", "torchrun", "xla")],
        ["training.scheduler."],
        ["explain"],
        ["job.yaml"],
    ], done.stderr


class Terminal:
    """A shell in a pseudo-terminal that is typed into."""

    def __init__(self, argv, place):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(place)
            os.execvpe(argv[0], argv, environment(place))

    def type(self, text, until):
        """Types, and returns what the shell wrote until a text appeared in it."""
        os.write(self.fd, text.encode())
        said = ""
        deadline = time.monotonic() + 60
        while until not in said:
            ready, _, _ = select.select([self.fd], [], [], 1)
            if ready:
                said += os.read(self.fd, 65536).decode()
            if time.monotonic() > deadline:
                pytest.fail(f"no {until!r} in {said!r}")
        return said

    def close(self):
        os.close(self.fd)
        os.waitpid(self.pid, 0)


SETUP = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(jobc completion bash)"'),
    "zsh": (["zsh", "-f", "-i"], 'autoload -U compinit; compinit -u -D; eval "$(jobc completion zsh)"'),
}


@pytest.mark.parametrize("shell", SETUP)
def test_tab_completes_in_a_terminal(place, shell):
    """Path by path and value by value, with TAB alone; the command that comes out is the one that was meant."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed: {INSTALL}")
    argv, setup = SETUP[shell]
    terminal = Terminal(argv, place)
    try:
        terminal.type(f"{setup}; echo rea''dy\n", until="ready")
        terminal.type("jobc pl\t", until="plan ")
        terminal.type("job\t", until="job.yaml ")
        terminal.type("training.sch\t", until="scheduler.")
        terminal.type("\t", until="step=")
        terminal.type("opt\t", until="optimizer_step ")
        terminal.type("precision=bf\t", until="bf16 ")
        said = terminal.type(" && echo do''ne\n", until="done")
        assert "training.scheduler.step  optimizer_step" in said
        assert "jobc run job.yaml training.scheduler.step=optimizer_step precision=bf16" in said
    finally:
        terminal.close()


def test_completion_imports_no_parser(place):
    """A TAB must feel like one: no YAML, no validator, no parser of overrides, nothing of a plan."""
    unneeded = {"yaml", "jsonschema", "omegaconf", "hydra", "antlr4", "jinja2", "tree_sitter", "jobc.compiler.compile"}
    code = (
        "import os, sys\nos.environ |= {'_JOBC_COMPLETE': 'bash_complete', 'COMP_LINE': 'jobc plan job.yaml launcher='}\n"
        f"from jobc.cli import main\nmain()\nprint(sorted(set(sys.modules) & {unneeded!r}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=True)
    assert (done.stderr, len(done.stdout.split())) == ("[]\n", 5)


def test_job_is_executable_for_the_shells(place):
    """The shells of these tests run this jobc."""
    done = subprocess.run(["jobc", "--version"], env=environment(place), cwd=place, capture_output=True, text=True)
    assert done.stdout.startswith("jobc "), done.stderr
    assert Path(shutil.which("jobc", path=environment(place)["PATH"])) == place.parent / "bin" / "jobc"
