"""Generated strings of every kind arrive in the worker byte for byte, on each way that a job can take."""

import json
import os
import random
import re
import subprocess
import sys
from base64 import b64decode
from pathlib import Path

import pytest
from jobc.cli.api import load, plan
from jobc.compiler.shell import render_shell
from jobc.spec.findings import FindingsError

#: How many strings a job carries; 1000 is the number of the figures, a job file holds at most 1 MiB.
COUNT = int(os.environ.get("JOBC_TEST_STRINGS", "400"))
PIECES = [
    "'", '"', "'\"'\"'", "\n", "\r", "\t", "$", "$$", "$HOME", "${HOME}", "$(touch pwned)", "`touch pwned`", "\\", "\\\\",
    "\\n", "--", "-", "-n", "--help", "=", " ", "  ", "*", "?", "[a]", "{a,b}", "!", "!!", "#", "~", "~root", ";", "&",
    "&&", "|", "<", "<<EOF\n", ">", "(", ")", "%s", "%", "é", "e\u0301", "日本", "\U0001f600", "\u2028", "\x85", "\x1b[31m",
    "\x01", "\x7f", "\ufeff", "\u202e", "a", "0", "null", "1e3", "yes", "<run_dir>", "{run_dir}", "@{x}@", "{{ x }}",
    "{% x %}", "EOF", "}", "main", "exit 1", "\n}\n", "${rank}", "$rank", "${oc.env:HOME}",
]  # fmt: skip
SCRIPT = """
import base64, json, os, sys
def plain(text):
    return base64.b64encode(os.fsencode(text)).decode()
values = [plain(value) for _, value in sorted((int(name[1:]), value) for name, value in os.environ.items()
          if name[:1] == "V" and name[1:].isdigit())]
with open(f"seen_{os.environ.get('RANK', '0')}.json", "w") as file:
    json.dump([[plain(word) for word in sys.argv[1:]], values], file)
"""
LOCAL = [
    pytest.param({"kind": "cpu"}, "auto", ["0"], id="one process"),
    pytest.param({"kind": "cpu", "per_node": 2}, "python", ["0", "1"], id="python"),
    pytest.param({"kind": "cpu", "per_node": 2}, "torchrun", ["0", "1"], id="torchrun"),
]


def strings(seed):
    """So many strings of a few pieces each, a very long one among them, dashes at the start."""
    pick = random.Random(seed)
    made = ["".join(pick.choice(PIECES) for _ in range(pick.randrange(9))) for _ in range(COUNT - 3)]
    return ["--", *made[: COUNT // 2], "it's $$ " * 12_500, "-", *made[COUNT // 2 :]]


def escaped(text):
    """A text as the document has it, where `${` begins an interpolation."""
    return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + "\\${", text)


_PAIR = re.compile(r"\\u(d[89ab]..)\\u(d[c-f]..)")


def _one(pair):
    """A character that JSON writes as two, as YAML has it."""
    return f"\\U{0x10000 + ((int(pair[1], 16) - 0xD800) << 10) + int(pair[2], 16) - 0xDC00:08x}"


def write(folder, args, env, **fields):
    document = {
        "script": "train.py",
        "args": [escaped(text) for text in args],
        "env": {f"V{index}": escaped(text) for index, text in enumerate(env)},
        **fields,
    }
    (folder / "train.py").write_text(SCRIPT)
    (folder / "job.yaml").write_text(_PAIR.sub(_one, json.dumps(document)))


def assert_arrived(folder, ranks, args, env):
    for rank in ranks:
        seen = json.loads((folder / f"seen_{rank}.json").read_text())
        for found, expected in zip(seen, (args, env), strict=True):
            assert [b64decode(text) for text in found] == [os.fsencode(text) for text in expected]
    assert not list(folder.rglob("pwned"))


@pytest.mark.parametrize(("hardware", "launcher", "ranks"), LOCAL)
def test_strings_arrive_on_this_machine(jobc_command, folder, hardware, launcher, ranks):
    """Arguments and variables, through each launcher."""
    args, env = strings(1), strings(2)[: COUNT // 2]
    write(folder, args, env, hardware=hardware, launcher=launcher)
    done = jobc_command("run", "job.yaml")
    assert done.returncode == 0, done.stderr[-3000:]
    assert_arrived(folder, ranks, args, env)


@pytest.mark.parametrize(("hardware", "launcher", "ranks"), LOCAL)
def test_strings_arrive_through_the_shell_form(folder, hardware, launcher, ranks):
    """The script that `jobc plan --format sh` prints, in a real bash."""
    args, env = strings(3), strings(4)[: COUNT // 2]
    write(folder, args, env, hardware=hardware, launcher=launcher)
    spec = load("job.yaml", env={})
    script = render_shell(plan(spec), {"project_dir": spec.project_dir, "python": sys.executable})
    (folder / "run.sh").write_bytes(script.encode(errors="surrogateescape"))
    done = subprocess.run(["bash", "run.sh"], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_arrived(folder, ranks, args, env)


@pytest.mark.parametrize("launcher", ["python", "torchrun"])
def test_strings_arrive_over_ssh(jobc_command, folder, ssh_hosts, ssh_job, launcher):
    """Through ssh, a remote bash and the launcher there; values of secrets too, which may be any bytes."""
    args, env = strings(5), strings(6)[: COUNT // 2]
    there = ssh_job("", hosts="[n1]")
    target = {"kind": "ssh", "hosts": ["n1"], "config": str(ssh_hosts), "folder": str(there)}
    fields = {"name": "train", "python": sys.executable, "target": target, "launcher": launcher}
    write(folder, args, env, hardware={"kind": "cpu"}, secrets=["V999999"], **fields)
    secret = os.fsdecode(b"caf\xe9 '\xff\"\n$(touch pwned)")
    done = jobc_command("run", "job.yaml", env={"V999999": secret})
    assert done.returncode == 0, done.stderr[-3000:]
    assert_arrived(there / "train" / "files", ["0"], args, [*env, secret])


def test_strings_arrive_through_the_shell_form_over_ssh(folder, ssh_hosts, ssh_job):
    """The script of a job on another machine, run by a bash here, has a bash there run the job."""
    args, env = strings(9), strings(10)[: COUNT // 2]
    there = ssh_job("", hosts="[n1]")
    target = {"kind": "ssh", "hosts": ["n1"], "config": str(ssh_hosts), "folder": str(there)}
    write(folder, args, env, name="train", python=sys.executable, target=target, launcher="torchrun", hardware="cpu")
    spec = load("job.yaml", env={})
    script = render_shell(plan(spec), {"project_dir": spec.project_dir, "python": sys.executable})
    (folder.parent / "run.sh").write_bytes(script.encode(errors="surrogateescape"))
    done = subprocess.run(["bash", "../run.sh"], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_arrived(there / "train" / "files", ["0"], args, env)


@pytest.mark.parametrize("hardware", ["cpu", "{kind: cpu, per_node: 2}"])
def test_paths_are_any_bytes(folder, hardware):
    """Folders, scripts and job files whose names are hostile or no UTF-8 run as others do."""
    for number, name in enumerate([b"caf\xe9\xff", 'it\'s $(touch pwned) "é"\n'.encode(), b"-rf --", b"$$ ${HOME} *"]):
        project = folder / f"p{number}" / os.fsdecode(name)
        project.mkdir(parents=True)
        write(project, ["a"], [])
        job = os.fsdecode(b"j\xe9 '$(touch pwned)'.yaml")
        (project / "job.yaml").rename(project / job)
        (project / "-s p'y.py").write_text(SCRIPT)
        words = [sys.executable, "-m", "jobc", "run", job, "script=-s p'y.py", f"hardware={hardware}"]
        words[5] = 'script="-s p\'y.py"'
        done = subprocess.run(words, cwd=project, capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert_arrived(project, ["0"], ["a"], [])


@pytest.mark.parametrize("word", [b"args=[\xff]", b"env.A=caf\xe9", b"script=\xff.py", b"\xff", b"name=\xff"])
def test_words_that_are_no_text_are_findings(folder, word):
    """A document is text: bytes that are none are refused, and nothing is shown but findings."""
    (folder / "job.yaml").write_text("script: train.py\n")
    done = subprocess.run([sys.executable, "-m", "jobc", "run", "job.yaml", word], capture_output=True, timeout=60)
    assert done.returncode == 2
    assert b"error[" in done.stderr
    assert b"Traceback" not in done.stderr


def test_file_names_are_copied_or_refused(jobc_command, folder, ssh_hosts, ssh_job):
    """Any text is copied to a machine as it is; a name that is none is a finding, and can be left out."""
    there = ssh_job("", hosts="[n1]")
    target = {"kind": "ssh", "hosts": ["n1"], "config": str(ssh_hosts), "folder": str(there)}
    write(folder, [], [], name="train", python=sys.executable, target=target, hardware="cpu")
    names = {text.replace("/", "_")[:60] for text in strings(8) if len(text) > 2} - {".", ".."}
    (folder / "data").mkdir()
    for name in names:
        (folder / "data" / name).write_bytes(name.encode())
    done = jobc_command("run", "job.yaml")
    assert done.returncode == 0, done.stderr[-3000:]
    arrived = {path.name: path.read_bytes() for path in (there / "train" / "files" / "data").iterdir()}
    assert arrived == {name: name.encode() for name in names}
    (folder / os.fsdecode(b"data/caf\xe9")).write_text("")
    for words in (("run",), ("plan", "--format", "json"), ("check",)):
        done = jobc_command(*words, "job.yaml")
        assert done.returncode != 0
        assert "error[J315]: the name of the file `data/caf\\udce9` is not UTF-8" in done.stderr + done.stdout
    assert jobc_command("run", "job.yaml", 'target.exclude=["caf*", "__pycache__"]').returncode == 0


def test_names_are_plain_or_refused(folder):
    """A job's name becomes folders and words of shells; generated ones are used as they are or are a finding."""
    taken = 0
    for text in strings(7):
        write(folder, [], [], name=escaped(text))
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", text):
            assert load("job.yaml", env={}).job.name == text
            taken += 1
        else:
            with pytest.raises(FindingsError):
                load("job.yaml", env={})
    assert taken < COUNT
    assert not Path("pwned").exists()


@pytest.mark.parametrize("launcher", ["python", "torchrun"])
def test_strings_arrive_through_ray(ray_cluster, jobc_command, folder, tmp_path, launcher):
    """Through Ray's working directory, the driver and the script of a node, on two nodes; secrets of any bytes too."""
    args, env = strings(7), strings(8)[: COUNT // 2]
    there = tmp_path / "there"
    target = {"kind": "ray", "folder": str(there), "cpus": 1}
    fields = {"name": "train", "hardware": "cpu", "nodes": 2, "target": target, "launcher": launcher}
    write(folder, args, env, secrets=["V99999"], **fields)
    secret = os.fsdecode(b"\xff ${HOME} $$ 'x'\n\"")
    done = jobc_command("run", "job.yaml", env={**ray_cluster.env, "V99999": secret})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert_arrived(there / "train" / "files", ["0", "1"], args, [*env, secret])


@pytest.mark.parametrize("launcher", ["python", "torchrun"])
def test_strings_arrive_in_a_container_of_sagemaker(containers, folder, tmp_path, launcher):
    """Through the script that the container starts; values of secrets come as its environment."""
    args, env = strings(11), strings(12)[: COUNT // 2]
    target = {"kind": "sagemaker", "region": "us-east-1", "role": "arn:aws:iam::123456789012:role/training"}
    target |= {"instance_type": "ml.m5.xlarge", "output": "s3://bucket/runs"}
    write(folder, args, env, name="train", python=sys.executable, target=target, launcher=launcher, hardware="cpu")
    (running,) = containers.run(plan(load("job.yaml", env={})), folder, tmp_path / "ml")
    assert running.wait(120) == 0, (tmp_path / "ml/algo-1/log").read_text()[-3000:]
    assert_arrived(tmp_path / "ml/algo-1/code", ["0"], args, env)


@pytest.mark.parametrize("launcher", ["python", "torchrun"])
def test_strings_arrive_through_slurm(tmp_path, slurm, launcher, monkeypatch):
    """Through sbatch, its script, srun and a task's script; folders of runs and of the job may have any name too."""
    for variable, name in (
        ("XDG_STATE_HOME", "state % %j \\ $(touch pwned) 'é\n"),
        ("", "job %n \\ `touch pwned` \"'\n"),
    ):
        made = tmp_path / name
        made.mkdir()
        monkeypatch.setenv(variable, str(made)) if variable else monkeypatch.chdir(made)
    args, env = strings(11), strings(12)[: COUNT // 2]
    fields = {"name": "train", "target": {"kind": "slurm"}, "launcher": launcher, "nodes": 2}
    write(Path(), args, env, hardware={"kind": "cpu"}, secrets=["V999999"], **fields)
    secret = os.fsdecode(b"caf\xe9 '\xff\",\n$(touch pwned)")
    words = [sys.executable, "-m", "jobc", "run", "job.yaml"]
    done = subprocess.run(words, env={**os.environ, **slurm.env, "V999999": secret}, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_arrived(Path(), ["0", "1"], args, [*env, secret])
