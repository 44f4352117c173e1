"""Writes tests/compiler/gcloud.json: the flags of the commands that plans for TPUs use, as the gcloud of this machine has them.

    python tests/tools/gcloud_flags.py > tests/compiler/gcloud.json

They come from the table that gcloud completes words with. Where the general release lacks a flag, the alpha of the same
version is looked at; `alpha` counts those.
"""

import json
import runpy
import shutil
import sys
from pathlib import Path

COMMANDS = (
    "compute tpus tpu-vm create",
    "compute tpus tpu-vm describe",
    "compute tpus tpu-vm ssh",
    "compute tpus tpu-vm scp",
    "compute tpus tpu-vm delete",
    "compute tpus queued-resources create",
    "compute tpus queued-resources describe",
    "compute tpus queued-resources delete",
    "compute tpus accelerator-types describe",
    "compute instances create",
    "compute instances describe",
    "compute instances delete",
    "compute machine-types describe",
    "compute ssh",
    "compute scp",
    "compute resource-policies create workload-policy",
    "compute resource-policies delete",
    "compute instance-templates create",
    "compute instance-templates delete",
    "compute instance-groups managed create",
    "compute instance-groups managed describe",
    "compute instance-groups managed resize",
    "compute instance-groups managed wait-until",
    "compute instance-groups managed list-instances",
    "compute instance-groups managed delete",
)
#: Every command has these; the table has them for none.
EVERYWHERE = {"--project": "value", "--quiet": "bool", "--format": "value"}
#: The table leaves this one out, because another `--version` is global.
LEFT_OUT = {"compute tpus tpu-vm create": {"--version": "value"}}


def folder():
    """Where gcloud is installed; None where it is not."""
    found = shutil.which("gcloud")
    return None if found is None else Path(found).resolve().parent.parent


def table():
    """Flags by command, those of the alpha apart."""
    tree = runpy.run_path(str(folder() / "data/cli/gcloud_completions.py"))["STATIC_COMPLETION_CLI_TREE"]
    made = {}
    for command in COMMANDS:
        general = {**_flags(tree, command), **EVERYWHERE, **LEFT_OUT.get(command, {})}
        alpha = {name: kind for name, kind in _flags(tree, f"alpha {command}").items() if general.get(name) != kind}
        made[command] = {"flags": general, "alpha": alpha}
    return {"version": (folder() / "VERSION").read_text().strip(), "commands": made}


def _flags(tree, command):
    for word in command.split():
        tree = tree["commands"][word]
    return {name: "value" if kind == "dynamic" else kind for name, kind in tree["flags"].items()}


if __name__ == "__main__":
    text = json.dumps(table(), indent=1, sort_keys=True)
    sys.stdout.write(text + "\n")
