"""Makes the published JSON Schema of a plan (draft 2020-12) from the frozen classes that hold one.

The committed `schemas/plan.schema.json` is for those who read plans with other tools.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from ..spec.schema import ID as JOB_ID
from .plan import FORMAT, LaunchPlan

ID = f"urn:jobc:schema:plan:{FORMAT}"
_SAID = {
    "spec": f"The resolved document, every value final; its fields are those of {JOB_ID}.",
    "origins": "Where each value that is not a mere default came from, by its path.",
    "inputs": "sha256 of each file that the job brings along, by its path from the job's folder.",
    "digest": "sha256 of what the plan does, the same on every machine.",
    "project_dir": "The way from the file of a saved plan to the job's folder.",
}


def plan_schema() -> dict[str, Any]:
    """The JSON Schema of what `jobc plan --format json` prints and `jobc plan -o` writes."""
    schema = msgspec.json.schema(LaunchPlan)
    definitions: dict[str, Any] = schema["$defs"]
    root = definitions.pop("LaunchPlan")
    for name, sentence in _SAID.items():
        root["properties"][name]["description"] = sentence
    root["properties"]["format"] = {"const": FORMAT, "description": "Version of the plan's format."}
    root["required"] = sorted({*root["required"], "format", "digest"})
    for block in (root, *definitions.values()):
        if block.get("type") == "object" and "properties" in block:
            block["additionalProperties"] = False
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        **root,
        "title": "jobc plan",
        "$defs": dict(sorted(definitions.items())),
    }


def render() -> str:
    """The schema as it is committed."""
    return json.dumps(plan_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    import sys
    from pathlib import Path

    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
