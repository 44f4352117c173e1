"""Checks objects of Kubernetes against CustomResourceDefinitions, and finds what a server would drop without a word."""

from functools import cache
from pathlib import Path

import jsonschema
import yaml

#: Published definitions, unchanged; they lie beside the project and are no part of it.
FOLDER = Path(__file__).parents[3] / "shared" / "crds"
MISSING = "the published CustomResourceDefinitions are not beside the project: ../shared/crds"


@cache
def schemas():
    """The schema of each served version, by apiVersion and kind."""
    found = {}
    for path in FOLDER.glob("*.yaml"):
        spec = yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))["spec"]
        for version in spec["versions"]:
            if version["served"]:
                key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                found[key] = version["schema"]["openAPIV3Schema"]
    return found


def faults(value):
    """What is wrong with an object, each with its place; a field that the definition does not have is wrong."""
    schema = schemas()[value["apiVersion"], value["kind"]]
    metadata = {"type": "object", "required": ["name"]}  # what the server knows of every object
    root = {
        **schema,
        "properties": {**schema["properties"], "metadata": {"x-kubernetes-preserve-unknown-fields": True, **metadata}},
    }
    validator = jsonschema.Draft7Validator(_strict(root))
    found = [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in validator.iter_errors(value)
    ]
    return found + list(_twice(root, value, ""))


def _strict(schema):
    """An OpenAPI schema as a JSON Schema that refuses what is not named."""
    made = {key: item for key, item in schema.items() if not key.startswith("x-") and key not in {"default", "example"}}
    if schema.get("x-kubernetes-int-or-string"):
        made = {key: item for key, item in made.items() if key not in {"type", "anyOf"}}
        made["type"] = ["integer", "string"]
        if "pattern" in made:  # a quantity, which is a number too
            made["type"] = ["integer", "number", "string"]
    if schema.get("nullable"):
        made["type"] = [made["type"], "null"]
    if "items" in schema:
        made["items"] = _strict(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        made["additionalProperties"] = _strict(schema["additionalProperties"])
    elif schema.get("type") == "object" and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made["additionalProperties"] = False
    if "properties" in schema:
        made["properties"] = {name: _strict(item) for name, item in schema["properties"].items()}
    return made


def _twice(schema, value, path):
    """Entries of a list that have the same key where the list is a map."""
    if isinstance(value, dict):
        for name, item in value.items():
            below = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
            if isinstance(below, dict):
                yield from _twice(below, item, f"{path}.{name}")
    elif isinstance(value, list):
        keys = schema.get("x-kubernetes-list-map-keys")
        names = [tuple(str(item.get(key)) for key in keys) for item in value] if keys else []
        if len(set(names)) < len(names):
            yield f"{path}: two entries have the same {', '.join(keys)}"
        for item in value:
            yield from _twice(schema.get("items", {}), item, path)
