"""Starts `ray job submit` with secrets in its runtime environment: python submit.py FILE NAMES ray job submit ...

The values go through a pipe. They are one word of base64, because Ray expands `${...}` in variables.
"""

import base64
import json
import os
import shutil
import sys


def main(file, names, *command):
    """Becomes the command."""
    with open(file) as opened:
        environment = json.load(opened)
    secrets = json.dumps({name: os.environ[name] for name in names.split(",")})
    environment["env_vars"] = {"JOBC_RAY_SECRETS": base64.b64encode(secrets.encode()).decode()}
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)  # noqa: FBT003 - it takes no keyword
    if os.fork() == 0:  # a pipe holds only so much before somebody reads it
        os.close(reader)
        with os.fdopen(writer, "w") as pipe:
            json.dump(environment, pipe)
        os._exit(0)
    os.close(writer)
    if shutil.which(command[0]) is None:
        sys.exit(f"{command[0]} cannot be started: there is no such program on PATH")
    os.execvp(command[0], [*command[:3], f"--runtime-env=/dev/fd/{reader}", *command[3:]])


main(*sys.argv[1:])
