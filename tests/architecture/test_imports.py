"""Architecture as failing checks: who imports whom, what may import what, how large things are."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("spec", "compiler", "executor", "runtime", "cli")

#: Libraries that one thought of ours uses, and the modules that hold it.
OWNERS = {
    "torch": {"runtime"},
    "safetensors": {"runtime"},
    "numpy": {"runtime"},
    "jinja2": {"compiler/rendering.py"},
    "pathspec": {"compiler/sending.py"},
    "omegaconf": {"spec/interpolate.py"},
    "jsonschema": {"spec/validate.py"},
    "hydra": {"spec/hydra_grammar.py", "spec/overrides.py"},
    "antlr4": {"spec/overrides.py"},
    "yaml": {"spec/yaml_reader.py"},
    "tree_sitter": {"spec/toml_reader.py"},
    "click": {"cli"},
}

#: What a module may import from the rest of the house.
MAY = {
    "spec": set(),
    "compiler": {"spec"},
    "executor": {"spec", "compiler"},
    "runtime": {"spec"},
    "cli": {"spec", "compiler", "executor", "runtime"},
}


def modules():
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def imports(path):
    """(level, module) of every import of a file, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module is None:
                yield from ((node.level, alias.name) for alias in node.names)
            else:
                yield node.level, node.module


@pytest.mark.parametrize("library", OWNERS)
def test_library_is_imported_by_its_owner_alone(library):
    """A library that one module holds can be replaced in one module."""
    users = {
        path.relative_to(ROOT).as_posix()
        for path in modules()
        if any(level == 0 and name.partition(".")[0] == library for level, name in imports(path))
    }
    assert users, f"{library} is not used: take it out of the table and of pyproject.toml"
    assert all(any(user == owner or user.startswith(f"{owner}/") for owner in OWNERS[library]) for user in users), users


def test_packages_import_as_the_house_is_drawn():
    """spec knows nobody, the compiler and the runtime know spec, only the command line knows all."""
    for path in modules():
        here = path.relative_to(ROOT)
        for level, name in imports(path):
            assert level or name.partition(".")[0] not in {*PACKAGES, "jobc"}, f"{here}: imports are relative"
            if level == len(here.parts):  # as many dots as there are folders, and one: the package itself
                other = name.partition(".")[0]
                assert other in {here.parts[0], "__version__"} | MAY[here.parts[0]], f"{here} imports {other}"


def test_executor_knows_the_plan_and_nothing_else_of_the_compiler():
    """What runs a plan cannot depend on how it was made."""
    for path in (ROOT / "executor").rglob("*.py"):
        found = {name for _, name in imports(path) if name.startswith("compiler")}
        assert found <= {"compiler.plan"}, path


@pytest.mark.parametrize("package", ["spec", "compiler"])
def test_planning_reads_no_environment(package):
    """The environment is a parameter."""
    for path in (ROOT / package).rglob("*.py"):
        assert not {"environ", "getenv"} & {
            node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)
        }, path


def test_modules_and_functions_keep_their_size():
    """A file or function that outgrows these is a question about its seams."""
    for path in modules():
        text = path.read_text()
        assert len(text.splitlines()) <= 420, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno - node.lineno < 65, f"{path}:{node.lineno} {node.name}"


def test_public_functions_and_classes_are_explained():
    """Every public name of a module has a docstring."""
    for path in modules():
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), path
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path}: {node.name}"


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "format", "--check", "."],
        ["ruff", "check", "."],
        ["pyright"],
        ["lint-imports", "--no-cache"],
    ],
    ids=lambda command: command[0] if command[0] != "ruff" else "-".join(command[:2]),
)
def test_checker_is_content(command):
    """Format, lint, strict types and import contracts hold."""
    if command[0] in ("pyright", "lint-imports"):
        link = ROOT / ".dev" / "jobc"
        link.parent.mkdir(exist_ok=True)
        if not link.exists():
            link.symlink_to("..")
    program = Path(sys.executable).parent / command[0]
    done = subprocess.run(
        [program, *command[1:]],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ".dev"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
