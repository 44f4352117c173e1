"""The command line as a person meets it: exit codes, what goes where, and never a traceback."""

import json
import os
import subprocess
import sys

import jobc
import pytest
from jobc.compiler.plan import decode


def test_help_names_every_command(jobc_command):
    """`jobc --help` is where people start."""
    done = jobc_command("--help")
    assert done.returncode == 0
    assert {"plan", "run"} <= {line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")}


def test_version_is_the_package_s(jobc_command):
    """One version, in one place."""
    assert jobc_command("--version").stdout == f"jobc {jobc.__version__}\n"


def test_no_command_shows_the_help(jobc_command):
    """Nothing to do is misuse, and says what could be done."""
    done = jobc_command()
    assert (done.returncode, done.stdout) == (2, "")
    assert "Commands:" in done.stderr


def test_unknown_command_names_the_nearest(jobc_command):
    """A slip of the finger."""
    done = jobc_command("pln", "job.yaml")
    assert done.returncode == 2
    assert "Did you mean `plan`?" in done.stderr


@pytest.mark.parametrize("command", ["plan", "run"])
def test_bad_job_exits_2_with_findings_on_stderr(jobc_command, folder, command):
    """Every finding at once, nothing on stdout, nothing run."""
    (folder / "job.yaml").write_text("scrpt: train.py\nnodes: 0\n")
    done = jobc_command(command, "job.yaml", "precision=bf61")
    assert (done.returncode, done.stdout) == (2, "")
    assert [code for code in ("J103", "J105", "J106") if f"error[{code}]" in done.stderr] == ["J103", "J105", "J106"]
    assert done.stderr.endswith("3 errors\n")


@pytest.mark.parametrize("command", ["plan", "run"])
def test_missing_job_exits_2(jobc_command, command):
    """A file that is not there."""
    done = jobc_command(command, "nope.yaml")
    assert done.returncode == 2
    assert done.stderr.startswith("error[J101]: `nope.yaml` does not exist")


def test_plan_prints_json_that_reads_back(jobc_command, folder):
    """The JSON form is the plan."""
    (folder / "job.yaml").write_text("script: train.py\n")
    done = jobc_command("plan", "job.yaml", "precision=bf16", "--format", "json")
    plan = decode(done.stdout.encode())
    assert plan == jobc.plan("job.yaml", ["precision=bf16"])
    assert json.loads(done.stdout)["spec"]["precision"]["kind"] == "bf16"


def test_plan_shows_what_it_writes(jobc_command, folder):
    """With --files every file stands there as it will be; the forms for programs hold them anyway."""
    (folder / "job.yaml").write_text("script: train.py\nargs: [--lr, 1e-4]\n")
    done = jobc_command("plan", "job.yaml", "--files").stdout
    shown = done[done.index("  <run_dir>/spec.json\n") :].splitlines()[1:]
    text = "\n".join(line[4:] for line in shown if line.startswith("  | "))
    assert json.loads(text)["job"]["args"] == ["--lr", "1e-4"]
    assert jobc_command("plan", "job.yaml", "--files", "--format", "json").returncode == 2


def test_plan_touches_nothing(jobc_command, folder, tmp_path):
    """A dry run writes no file and starts no process."""
    (folder / "job.yaml").write_text("script: train.py\nhardware: {kind: cpu, per_node: 2}\n")
    for form in ("text", "json", "sh"):
        assert jobc_command("plan", "job.yaml", "--format", form).returncode == 0
    assert sorted(path.name for path in folder.iterdir()) == ["job.yaml", "train.py"]
    assert not (tmp_path / "state").exists()


def test_plan_says_how_to_run_it(jobc_command, folder):
    """The last line can be copied."""
    (folder / "job.yaml").write_text("script: train.py\n")
    last = jobc_command("plan", "job.yaml", "args=[a, 'b c']").stdout.strip().splitlines()[-1]
    assert last.strip() == """jobc run job.yaml 'args=[a, '"'"'b c'"'"']'   runs exactly this"""


def test_plan_of_a_job_in_a_folder_with_odd_characters(jobc_command, folder):
    """Spaces, quotes and newlines in a path are characters like others."""
    odd = folder / 'it\'s a "job"\nfolder $(x)'
    odd.mkdir()
    (odd / "train.py").write_text("import os; print(os.getcwd())\n")
    (odd / "job.yaml").write_text("script: train.py\n")
    assert jobc_command("plan", str(odd / "job.yaml")).returncode == 0
    done = jobc_command("run", str(odd / "job.yaml"))
    assert (done.returncode, done.stdout) == (0, f"{odd}\n")


def test_closed_pipe_is_no_traceback(folder):
    """`jobc plan ... | head -1` ends quietly."""
    (folder / "job.yaml").write_text("script: train.py\n")
    line = f"{sys.executable} -m jobc plan job.yaml | true"
    done = subprocess.run(["bash", "-c", line], cwd=folder, env=dict(os.environ), capture_output=True, text=True)
    assert "Traceback" not in done.stderr


def test_planning_imports_no_torch(folder):
    """A laptop without torch plans for a cluster."""
    (folder / "job.yaml").write_text("script: train.py\nhardware: {kind: cpu, per_node: 2}\nvars: {a: '${script}'}\n")
    code = (
        "import sys; sys.argv = ['jobc', 'plan', 'job.yaml', 'precision=bf16', '--format', 'sh']\n"
        "from jobc.cli import main\nassert main() == 0\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'torch', 'numpy', 'deepspeed', 'boto3'}),"
        " file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


@pytest.mark.parametrize(
    ("words", "unneeded"),
    [
        (["--help"], {"yaml", "msgspec", "jsonschema", "omegaconf", "hydra", "jinja2"}),
        (["plan", "job.yaml"], {"omegaconf", "hydra", "antlr4", "jinja2", "tree_sitter"}),
    ],
)
def test_command_imports_what_it_needs(folder, words, unneeded):
    """No overrides, no parser of overrides; no interpolation, no OmegaConf."""
    (folder / "job.yaml").write_text("script: train.py\n")
    code = (
        f"import sys; sys.argv = ['jobc', *{words!r}]\nfrom jobc.cli import main\nmain()\n"
        f"print(sorted(set(sys.modules) & {unneeded!r}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
