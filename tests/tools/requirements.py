"""Prints requirements of pyproject.toml, one word each, for `pip install`: `.` is the package's own, other names are extras."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
for name in sys.argv[1:]:
    wanted = project["dependencies"] if name == "." else project["optional-dependencies"][name]
    print(*(requirement.replace(" ", "") for requirement in wanted), sep="\n")
