"""Targets and launchers of other packages: the example is installed, and packages that are broken in many ways."""

import json
import os
import pstats
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin"
DEMO = "script: train.py\nhardware: {kind: cpu, per_node: 2}\ntarget: {kind: nice, level: 15}\nlauncher: profile\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder that the example is installed into, as pip installs it."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", folder / "site", folder / "source"], check=True
    )
    return folder / "site"


@pytest.fixture
def with_plugins(jobc_command):
    """The command line where packages of some folders are installed too."""

    def run(*words, folders):
        path = os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])])
        return jobc_command(*words, env={"PYTHONPATH": path})

    return run


@pytest.fixture
def broken(tmp_path):
    """Writes a package with one entry point as installers do: a module, and what is known of its distribution."""

    def write(name, code, point, group="jobc.targets"):
        site = tmp_path / f"site-{name}"
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{name}.py").write_text(code)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{point} = {name}\n")
        return site

    return write


def test_example_is_planned_and_run(site, folder, with_plugins):
    """Both processes step back as far as the document says, and leave a profile that Python reads."""
    shutil.copytree(EXAMPLE / "demo", folder, dirs_exist_ok=True)
    done = with_plugins("run", "job.yaml", "target.level=19", folders=[site])
    assert sorted(line.partition("rank")[2] for line in done.stdout.splitlines()) == [
        " 0 of 2, nice 19",
        " 1 of 2, nice 19",
    ]
    assert done.returncode == 0, done.stderr
    (profile,) = (folder.parent / "state").rglob("rank_1.prof")
    assert any("count.py" in where for where, _, _ in pstats.Stats(str(profile)).stats)


def test_section_is_treated_as_those_of_jobc(site, folder, with_plugins):
    """Defaults, ranges, names of keys, interpolation and the checks of the target itself."""
    (folder / "job.yaml").write_text(DEMO.replace("level: 15", "level: '${vars.far}'") + "vars: {far: 7}\n")
    shown = with_plugins("explain", "job.yaml", "target", folders=[site]).stdout
    assert "target.level\t7\tjob.yaml:3" in shown
    (folder / "job.yaml").write_text("script: train.py\ntarget: nice\n")
    assert json.loads(with_plugins("plan", "job.yaml", "--format", "json", folders=[site]).stdout)["spec"][
        "target"
    ] == {
        "kind": "nice",
        "level": 10,
    }
    for words, said in {
        ("target.level=20",): "error[J106]: `target.level` is between 1 and 19, here it is `20`",
        ("target.levl=5",): "did you mean `level`?",
        ("nodes=2",): "error[J303]: the target `nice` is one machine, and `nodes` asks for 2",
        ("target=niece",): "did you mean `nice`?",
        ("launcher=profile", "~script", "command=[ls]"): "error[J311]: the launcher `profile` profiles Python",
        ("launcher=profile", "target=inherit"): "`target: inherit` cannot start processes with `launcher: profile`",
    }.items():
        done = with_plugins("plan", "job.yaml", *words, folders=[site])
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert "How far the processes step back" in with_plugins("explain", "target.level", folders=[site]).stdout


def test_saved_plan_needs_no_plugin(site, folder, with_plugins):
    """A plan is complete: where it runs, neither jobc nor the processes ask for the package."""
    (folder / "job.yaml").write_text(DEMO)
    (folder / "train.py").write_text("import jobc\nprint(jobc.PartialState().num_processes)\n")
    assert with_plugins("plan", "job.yaml", "-o", "plan.json", folders=[site]).returncode == 0
    done = with_plugins("run", "plan.json", folders=[])
    assert (done.returncode, done.stdout.count("2\n")) == (0, 2), done.stderr
    without = with_plugins("plan", "job.yaml", folders=[])
    assert "`target.kind` is `local`" in without.stderr


def test_schema_includes_plugins_when_asked(site, folder, with_plugins):
    """An editor that is given this schema knows the plugin's keys; the published schema stays as it is."""
    plain, more = (json.loads(with_plugins("schema", *words, folders=[site]).stdout) for words in ([], ["--plugins"]))
    assert "nice" not in plain["$defs"]["Target"]["x-kinds"]
    name = more["$defs"]["Target"]["x-kinds"]["nice"]
    assert more["$defs"][name]["properties"]["level"]["default"] == 10
    assert "profile" in more["properties"]["launcher"]["else"]["enum"]


SHAPE = """
from jobc.spec.parts import Kind
class Mine(Kind, frozen=True, tag="mine"):
    "A target."
SECTION, LAUNCHERS, DEPENDS = Mine, frozenset({"python"}), False
def check(spec): return ()
def deploy(spec, launcher): raise OSError("no such\\nluck")
"""


@pytest.mark.parametrize(
    ("code", "point", "said"),
    [
        ("import nothing_of_that_name", "mine", "error[J360]: `target: mine` of odd 1.0 cannot be imported: ModuleNot"),
        ("raise SystemExit('no')", "mine", "error[J360]: `target: mine` of odd 1.0 cannot be imported: SystemExit"),
        ("", "mine", "error[J361]: `target: mine` of odd 1.0 is no target: it has no `SECTION`"),
        ("SECTION = int", "mine", "`SECTION` is not a struct that is a frozen `jobc.spec.parts.Kind` with a tag"),
        (SHAPE.replace("DEPENDS =", "X ="), "mine", "it has no `DEPENDS`"),
        (SHAPE.replace('tag="mine"', 'tag="ssh"'), "mine", "`SECTION` has the kind `ssh`"),
        (SHAPE.replace('"A target."', '"A target."\n    field: set'), "mine", "have no schema"),
        (SHAPE.replace("return ()", "return [1]"), "mine", "error[J361]: `check` of `target: mine` (odd 1.0) failed"),
        (SHAPE, "mine", "error[J361]: `deploy` of `target: mine` (odd 1.0) failed: OSError: no such luck"),
        (SHAPE.replace("raise OSError", "return str"), "mine", "error[J361]: `deploy` of `target: mine`"),
        (SHAPE, "ssh", "error[J362]: odd 1.0 gives `target: ssh`, which jobc has itself"),
    ],
    ids=str,
)
def test_broken_target_is_a_finding(broken, folder, with_plugins, site, code, point, said):
    """What is wrong with a package is said in its name, at the place that names it, and is never a traceback."""
    wanted = "nice" if point == "ssh" else point
    (folder / "job.yaml").write_text(f"script: train.py\ntarget: {wanted}\n")
    done = with_plugins("plan", "job.yaml", folders=[broken("odd", code, point), site])
    assert (done.returncode, done.stderr.count("error[")) == (2, 1), done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_broken_launcher_is_a_finding(broken, folder, with_plugins):
    """A launcher is told in the same words, and shows where its own code failed."""
    code = (
        "RESTARTS, OPTIONS, TARGETS = False, None, frozenset({'local'})\ndef node_commands(spec, site): return 1 / 0\n"
    )
    (folder / "job.yaml").write_text("script: train.py\nlauncher: mine\n")
    done = with_plugins("plan", "job.yaml", folders=[broken("odd", code, "mine", "jobc.launchers")])
    assert "error[J361]: `node_commands` of `launcher: mine` (odd 1.0) failed: ZeroDivisionError" in done.stderr
    assert "odd.py:2)" in done.stderr


def test_two_packages_with_one_name_are_a_finding(broken, folder, with_plugins):
    """What a document means does not depend on which package is found first."""
    (folder / "job.yaml").write_text("script: train.py\ntarget: mine\n")
    sites = [broken("odd", SHAPE, "mine"), broken("even", SHAPE, "mine")]
    done = with_plugins("plan", "job.yaml", folders=sites)
    assert "error[J362]: `target: mine` is given by even 1.0 and odd 1.0" in done.stderr


def test_packages_are_not_asked_for_without_need(folder):
    """A job with a target and a launcher of jobc's own is planned without a look at what is installed."""
    (folder / "job.yaml").write_text("script: train.py\ntarget: local\n")
    code = (
        "import sys, jobc; jobc.plan('job.yaml', ['launcher=python'])\n"
        "from jobc.spec import plugins; print(plugins._points.cache_info().misses)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder)
    assert done.stdout == "0\n", done.stderr
