"""What all tests share: where jobc comes from, golden texts, and jobs written on the spot."""

import difflib
import os
import subprocess
import sys
from pathlib import Path

import jobc
import pytest

ROOT = Path(__file__).parent.parent
ACCEPT = "make test ARGS=--accept"


def pytest_addoption(parser):
    parser.addoption("--accept", action="store_true", help="write golden texts anew instead of comparing with them")


def pytest_report_header():
    return f"jobc {jobc.__version__} from {jobc.__file__} ({os.environ.get('JOBC_TEST_INSTALL', 'as found')})"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """In CI every engine is there: a test that skips for want of one has failed."""
    report = yield
    if report.skipped and os.environ.get("CI") and "make engines" in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} needs an engine that is not installed: {call.excinfo.value}"
    return report


@pytest.fixture(autouse=True)
def _unchanged_environment():
    """Nothing that a test calls leaves a variable behind."""
    before = dict(os.environ)
    yield
    changed = {name for name in before.keys() | os.environ.keys() if before.get(name) != os.environ.get(name)}
    assert changed <= {"PYTEST_CURRENT_TEST"}


@pytest.fixture
def golden(request):
    """Compares a text with a committed one."""

    def compare(path: Path, text: str) -> None:
        if request.config.getoption("--accept"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            return
        expected = path.read_text() if path.exists() else ""
        diff = "\n".join(difflib.unified_diff(expected.splitlines(), text.splitlines(), str(path), "now", lineterm=""))
        assert text == expected, f"{diff}\n\nif the change is meant: {ACCEPT}"

    return compare


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder with a train.py, where commands run and run records go."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    project = tmp_path / "project"
    project.mkdir()
    (project / "train.py").write_text("print('trained')\n")
    monkeypatch.chdir(project)
    return project


@pytest.fixture
def jobc_command(folder):
    """Runs the command line in a process of its own."""

    def run(*args, env=None, **options):
        return subprocess.run(
            [sys.executable, "-m", "jobc", *args],
            cwd=folder,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            **{"timeout": 120, **options},
        )

    return run
