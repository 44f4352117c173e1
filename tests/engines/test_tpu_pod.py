"""Plans for slices of TPUs with the real gcloud: against a fake of Google's APIs, with two sshd as the slice's workers."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from fake_tpu_api import FakeGoogle
from gcloud_flags import table
from jobc.cli.api import load, plan
from jobc.compiler.plan import Report, RunCommand
from jobc.compiler.quoting import plain
from jobc.compiler.shell import render_shell
from jobc.executor import runs_dir

SSHD = "/usr/sbin/sshd"
SFTP = "/usr/lib/openssh/sftp-server"
ADDRESSES = ("127.0.0.2", "127.0.0.3")
#: One of the kinds that a newer gcloud knows only.
NEWER = re.compile(r" --request-valid-for-duration=\S+")
HOSTILE = ["it's", '"$HOME"', "$(touch pwned)", "two\nlines", "", "-", "é日", "{}", "@instance", "a=b,c"]
SCRIPT = """
import json, os, sys, time
names = ("RANK", "WORLD_SIZE", "TPU_WORKER_ID", "TPU_WORKER_HOSTNAMES", "JOB_COMPLETION_INDEX", "PJRT_DEVICE", "XLA_USE_SPMD",
         "HF_TOKEN", "MINE")
said = {name: os.environ.get(name) for name in names}
with open(f"seen_{os.environ.get('RANK', '0')}.json", "w") as file:
    json.dump([sys.argv[1:], said, os.environ["JOBC_SPEC"][:2]], file)
print("worker", os.environ.get("RANK", "0"), "was here", flush=True)
"""


@pytest.fixture
def google(tmp_path, monkeypatch):
    """The fake, and an environment in which gcloud talks to nobody else."""
    if shutil.which("gcloud") is None:
        pytest.skip("gcloud is not installed, and no package of the tests has it")
    fake = FakeGoogle(ADDRESSES)
    home = tmp_path / "home"
    home.mkdir()
    (home / ".ssh").mkdir(mode=0o700)
    for name, value in {**fake.env(home), "HOME": str(home), "HF_TOKEN": "it's $ecret"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    yield fake
    fake.close()


@pytest.fixture
def workers(google, tmp_path):
    """Two sshd, each with a home folder and a metadata server of its own; folders and the flags that reach them."""
    if not (Path(SSHD).exists() and Path(SFTP).exists() and os.geteuid() == 0):
        pytest.skip("sshd is not installed, or is not started as root: make engines")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind((ADDRESSES[0], 0))
        port = free.getsockname()[1]
    started, folders = [], []
    for index, address in enumerate(ADDRESSES):
        folders.append(tmp_path / f"worker{index}")
        folders[-1].mkdir()
        config = tmp_path / f"sshd{index}"
        config.write_text(
            f"ListenAddress {address}:{port}\nHostKey {tmp_path}/host\nPidFile none\nStrictModes no\nUsePAM no\n"
            f"AuthorizedKeysFile {tmp_path}/user.pub\nSubsystem sftp {SFTP}\n"
            f"SetEnv GCE_METADATA_HOST={google.metadata_host(index)} HOME={folders[-1]}\n"
            f'ForceCommand cd {folders[-1]} && eval "$SSH_ORIGINAL_COMMAND"\n'
        )
        started.append(subprocess.Popen([SSHD, "-D", "-f", config], stderr=subprocess.DEVNULL))
    _until(lambda: all(_open(address, port) for address in ADDRESSES))
    flags = [f"--ssh-key-file={tmp_path}/user", "--strict-host-key-checking=no"]
    yield folders, [*flags, f"--ssh-flag=-p {port}"], [*flags, f"--scp-flag=-P {port}"]
    for process in started:
        process.terminate()
        process.wait(10)


def _open(address, port):
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0


def _until(holds, seconds=100):
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it did not come to be"
        time.sleep(0.5)


def write(
    folder, workers, script=SCRIPT, hardware="{kind: tpu, type: v4-16, runtime: spmd}", launcher="torchrun", **target
):
    """A job for the workers."""
    _, ssh, scp = workers
    said = {"kind": "tpu_pod", "zone": "us-central2-b", "project": "my-project", "user": "root",
            "ssh_args": ssh, "scp_args": scp, **target}  # fmt: skip
    (folder / "train.py").write_text(script)
    (folder / "job.yaml").write_text(
        f"script: train.py\nname: train\npython: {sys.executable}\nhardware: {hardware}\nsecrets: [HF_TOKEN]\n"
        f"args: {json.dumps(HOSTILE)}\nenv: {{MINE: {json.dumps(HOSTILE[2])}}}\ntarget: {json.dumps(said)}\n"
    )
    spec = load("job.yaml", env={})
    return plan(spec), spec


#: Carries out verbs of a plan. `jobc run` refuses to, because nothing has tried them against Google's own servers yet; and it
#: is a process of its own, because an executor ends what its process leaves behind, and the machines are children of this one.
DO = """
import os, sys
from pathlib import Path
from jobc.cli.api import load, plan
from jobc.executor import Settings, execute, run_verb, runs_dir
spec = load("job.yaml", env={})
made = plan(spec)
how = Settings(project_dir=Path(spec.project_dir), env=os.environ, runs_dir=runs_dir(os.environ), stdout=sys.stdout,
               stderr=sys.stderr, wait=False)
if sys.argv[1] == "submit":
    sys.exit(execute(made, how).exit_code)
run_dir = next(runs_dir(os.environ).iterdir())
sys.exit(run_verb(made, run_dir, {"stop": made.stop, "remove": made.wait[1:]}[sys.argv[1]], how))
"""


def do(verb):
    """Carry out a verb of the job in this folder; the run's folder."""
    done = subprocess.run([sys.executable, "-c", DO, verb], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return next(runs_dir(os.environ).iterdir())


def seen(folder):
    """What each process of a machine found, by its rank."""
    files = sorted(folder.glob(".jobc/*/send/files/seen_*.json"))
    return {file.stem[5:]: json.loads(file.read_text()) for file in files}


def stand(jobc_command):
    """The state of the last run."""
    done = jobc_command("status", "last", "--format", "json")
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)["state"]


def test_job_runs_on_all_workers_of_a_slice(google, workers, folder, jobc_command):
    """Made, filled, started, asked, shown and removed with the plan's own steps; arguments and secrets arrive as they are."""
    write(folder, workers)
    assert not (do("submit") / "secrets.sh").exists()
    _until(lambda: stand(jobc_command) == "succeeded")
    for machine in workers[0]:
        found = seen(machine)
        assert len(found) == 1
        (args, said, spec_word), *_ = found.values()
        assert args == HOSTILE
        assert said["PJRT_DEVICE"] == "TPU"
        assert (said["XLA_USE_SPMD"], said["MINE"]) == ("1", HOSTILE[2])
        assert said["HF_TOKEN"] == os.environ["HF_TOKEN"]
        assert spec_word == "z:"
        assert not list(machine.rglob("pwned"))
        assert not list(machine.rglob("secrets.sh"))
    logs = jobc_command("logs", "last").stdout
    assert "[0] worker 0 was here" in logs
    assert "[1] worker 0 was here" in logs
    do("remove")
    first, *_, last = google.requests
    name = last[1].rpartition("/")[2]
    assert (first[0], last[0]) == ("POST", "DELETE")
    assert first[2]["acceleratorType"] == "v4-16"
    assert name.startswith("train-")


def test_failure_of_one_worker_is_that_of_the_run(google, workers, folder, jobc_command):
    """The exit code is that of the machine's command, and the other is not waited for."""
    write(folder, workers, "import os, sys, time\nif 'worker1' in os.getcwd():\n    sys.exit(7)\n"
          "time.sleep(600)\n", "{kind: tpu, type: v4-16, runtime: spmd}")  # fmt: skip
    do("submit")
    _until(lambda: stand(jobc_command) == "failed")
    do("stop")
    _until(lambda: not _processes(runs_dir(os.environ)))  # the last one says how it ended, and ends
    assert google.requests[-1][0] == "DELETE"


def _processes(runs):
    """Processes that a run has left."""
    mark = f"JOBC_RUN={next(runs.iterdir()).name}.".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            found += [process] if mark in process.read_bytes() else []
    return found


def test_stopped_slice_ends_its_processes_and_is_removed(google, workers, folder, jobc_command):
    """`jobc stop` ends them, and takes down what was made."""
    write(folder, workers, "import time\nprint('begun', flush=True)\ntime.sleep(600)\n")
    do("submit")
    _until(lambda: all("begun" in file.read_text() for machine in workers[0]
                       for file in machine.glob(".jobc/*/send/output.log")))  # fmt: skip
    assert stand(jobc_command) in ("submitted", "running")
    done = jobc_command("stop", "last")
    assert done.returncode == 0, done.stderr
    states = [file.read_text() for machine in workers[0] for file in machine.glob(".jobc/*/send/state")]
    assert states == ["stopped 143\n"] * 2
    _until(lambda: not _processes(runs_dir(os.environ)))  # the last one says how it ended, and ends
    assert google.requests[-1][0] == "DELETE"


def test_script_of_the_plan_waits_for_a_queued_slice(google, workers, folder):
    """`--format sh` does the same where jobc is not at hand: it asks until the slice is there, then starts the job."""
    google.states = ["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]
    google.addresses = ADDRESSES[:1]
    made, spec = write(folder, workers, hardware="{kind: tpu, type: v4-8, runtime: spmd}", way="queued_resource")
    script = render_shell(made, {"project_dir": spec.project_dir, "python": sys.executable})
    (folder / "run.sh").write_text(re.sub(r"sleep (15|30)\n", "sleep 0.1\n", script))
    done = subprocess.run(["bash", "run.sh"], cwd=folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert google.states == []
    _until(lambda: seen(workers[0][0]))
    (args, said, _), *_ = seen(workers[0][0]).values()
    assert (args, said["PJRT_DEVICE"], said["TPU_WORKER_ID"]) == (HOSTILE, "TPU", None)
    assert google.requests[0][2]["tpu"]["nodeSpec"][0]["node"]["runtimeVersion"] == "tpu-ubuntu2204-base"


def test_script_of_the_plan_ends_where_the_queue_refuses(google, workers, folder):
    """A request that failed is no slice to wait for."""
    google.states = ["FAILED"] * 3
    made, spec = write(folder, workers, way="queued_resource")
    (folder / "run.sh").write_text(render_shell(made, {"project_dir": spec.project_dir, "python": sys.executable}))
    done = subprocess.run(["bash", "run.sh"], cwd=folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert "FAILED" in done.stderr


def as_this_gcloud_has_it(text):
    """A text in which commands that only the alpha of the gcloud of this machine has are those of its alpha."""
    for command, known in table()["commands"].items():
        for flag in known["alpha"]:
            words = rf"gcloud {command} (?=[^\n]*{re.escape(flag)}=)"
            value = flag in known["flags"]  # with another set of values
            if not value or "FLEX_START" in text:
                text = re.sub(words, f"gcloud alpha {command} ", text)
    return NEWER.sub("", text)


def test_group_of_compute_engine_runs_a_job(google, workers, folder):
    """A policy, a template and a group that is made all at once; its machines are known by name when they are there."""
    made, spec = write(
        folder, workers, hardware="{kind: tpu, type: v5p-16, runtime: spmd}", way="compute_engine", zone="us-east5-a"
    )
    script = render_shell(made, {"project_dir": spec.project_dir, "python": sys.executable})
    (folder / "run.sh").write_text(as_this_gcloud_has_it(script))
    done = subprocess.run(["bash", "run.sh"], cwd=folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    _until(lambda: sum(len(seen(machine)) for machine in workers[0]) == 2)
    for machine in workers[0]:
        for args, said, _ in seen(machine).values():
            assert args == HOSTILE
            assert said["PJRT_DEVICE"] == "TPU"
    bodies = {path.rpartition("/")[2]: body for method, path, body in google.requests if method == "POST"}
    assert bodies["resourcePolicies"]["workloadPolicy"] == {"acceleratorTopology": "2x2x2", "type": "HIGH_THROUGHPUT"}
    assert bodies["instanceTemplates"]["properties"]["machineType"] == "ct5p-hightpu-4t"
    assert bodies["instanceGroupManagers"]["targetSizePolicy"] == {"mode": "BULK"}
    assert bodies["instanceGroupManagers"]["targetSize"] == 0


MANY = {"network": "inside", "subnetwork": "below", "internal_ips": True, "tags": ["a", "b"], "labels": {"team": "one"},
        "service_account": "a@b.c", "data_disks": ["data"], "name": "mine"}  # fmt: skip
WAYS = {
    "reserved": ("v4-16", {"capacity": "reserved", **MANY}),
    "queued": ("v6e-16", {"way": "queued_resource", "capacity": "spot", "valid_until": "6h", **MANY}),
    "flexible": ("v6e-8", {"way": "queued_resource", "capacity": "flex_start", "max_minutes": 120, "name": "mine"}),
    "instance": ("v6e-4", {"way": "compute_engine", "capacity": "flex_start", "max_minutes": 240, "valid_until": "2h", **MANY}),
    "reservation": ("tpu7x-8", {"way": "compute_engine", "capacity": "reserved", "reservation": "ours", "name": "mine"}),
    "group": ("tpu7x-16", {"way": "compute_engine", "capacity": "spot", **MANY}),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_gcloud_takes_every_line_that_makes_and_removes_a_slice(google, folder, way):
    """The real gcloud reads every flag, and asks Google for what the job says."""
    kind, said = WAYS[way]
    made, _ = write(folder, ((), [], []), hardware=f"{{kind: tpu, type: {kind}}}", **said)
    steps = [*made.preflight, *made.submit, *made.wait]
    lines = [[plain(word) for word in step.command.argv] for step in steps if isinstance(step, RunCommand | Report)]
    making = [words for words in lines if words[0] == "gcloud" and not {"ssh", "scp"} & set(words)]
    assert len(making) >= 3
    for words in making:
        text = as_this_gcloud_has_it(" ".join(words))
        done = subprocess.run(text.split(" "), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, (text, done.stderr)
    asked = json.dumps([body for method, _, body in google.requests if method == "POST"])
    for field in ("network", "subnetwork", "service_account", "reservation"):
        assert said.get(field, "") in asked
    if "tags" in said:
        assert '"tags": ["a", "b"]' in asked or '"tags": {"items": ["a", "b"]}' in asked
        assert '"labels": {"team": "one"}' in asked or '"value": "one"' in asked
        assert "data" in asked
    removed = [path for method, path, _ in google.requests if method == "DELETE"]
    assert len(removed) == (3 if way == "group" else 1)
    assert all(path.endswith("/mine") for path in removed)


def test_committed_flags_are_those_of_this_gcloud(google):
    """The table that plans are checked with where there is no gcloud; a newer gcloud may have more."""
    committed = json.loads((Path(__file__).parents[1] / "compiler" / "gcloud.json").read_text())["commands"]
    for command, known in table()["commands"].items():
        there = {**known["alpha"], **known["flags"]}
        assert set(committed[command]["flags"]) <= set(there), command
