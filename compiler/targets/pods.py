"""A pod of a job: what its container runs, and what it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ...spec import ResolvedSpec
from ...spec.hardware import Gpu, Tpu
from ...spec.targets.kubernetes import Kubernetes
from ..launchers import Launcher
from ..launchers.base import Site, joined
from ..plan import Command, Name, Ref, Text
from ..quoting import node_command, shell, unexpandable

if TYPE_CHECKING:
    from ...spec.catalogue import Generation

#: The port where processes meet, unless the job says another: pods have all ports to themselves.
PORT = "29500"
_KNOWN: frozenset[Name] = frozenset({"node", "head"})
_NODE: dict[str, tuple[Text, ...]] = {
    "pytorchjob": ("node=${RANK:-0}", "unset RANK WORLD_SIZE MASTER_ADDR MASTER_PORT"),
    "trainjob": ("node=${JOB_COMPLETION_INDEX:-0}",),
    "jobset": ("node=${JOB_COMPLETION_INDEX:-0}",),
}
#: The first process of a container gets no signal that it does not ask for: bash asks, and passes it on.
_ACCOMPANY = """\
) &
child=$!
trap 'kill -TERM "$child"' TERM INT
code=0
wait "$child" || code=$?
while kill -0 "$child" 2>/dev/null; do
  code=0
  wait "$child" || code=$?
done
exit "$code"
"""


def node_commands(spec: ResolvedSpec, launcher: Launcher) -> tuple[Command, ...]:
    """The commands of a node, in its container."""
    nodes, folder = spec.job.nodes, _target(spec).folder
    address: Text = "127.0.0.1" if nodes.count == 1 else (Ref("head"),)
    site = Site(
        node="0" if nodes.count == 1 else (Ref("node"),),
        python="python3",
        project=folder.rstrip("/") or "/",
        logs="/tmp/jobc-logs",  # noqa: S108 - in a container of its own
        spec=(Ref("packed_spec"),),
        address=nodes.rendezvous.address or address,
        port=PORT,
        output="stream",
    )
    commands = launcher.node_commands(spec, site)
    return tuple(msgspec.structs.replace(_placed(command), output="elsewhere") for command in commands)


def _placed(command: Command) -> Command:
    """The command with the number of its node for its rank: a pod that starts processes one by one has one."""
    env = {name: (Ref("node"),) if _is_rank(text) else text for name, text in command.env.items()}
    return msgspec.structs.replace(command, env=env)


def _is_rank(text: Text) -> bool:
    return isinstance(text, tuple) and any(isinstance(part, Ref) and part.ref == "rank" for part in text)


def script(spec: ResolvedSpec, command: Command) -> Text:
    """What bash runs in the container: find out which node this is, then the command, until it ends."""
    inner = [unexpandable(line) for line in node_command(command, _KNOWN)]
    lines = (
        "trap 'exit 143' TERM INT",
        *_NODE[_target(spec).api],
        *_meeting(spec),
        "(",
        "  set -e",
        *(() if "PET_" in command.unset else ('  unset "${!PET_@}"',)),
        *(joined("  ", line) for line in inner),
    )
    return joined(*(part for line in lines for part in (line, "\n")), _ACCOMPANY)


def _meeting(spec: ResolvedSpec) -> tuple[Text, ...]:
    """Where nodes meet. Pods start when they can: the others wait until the first one's agent listens."""
    nodes = spec.job.nodes
    if nodes.count == 1:
        return ()
    lines: tuple[Text, ...] = (joined("head=", head(spec)),)
    if nodes.rendezvous.address is None:
        lines += ('if [ "$node" = 0 ]; then head=$HOSTNAME; fi',)
    if spec.job.launcher in {"python", "xla"}:
        return lines
    port = nodes.rendezvous.port or PORT
    listening = f'(exec 3<>"/dev/tcp/$head/{port}") 2>/dev/null'
    return (*lines, f'if [ "$node" != 0 ]; then until {listening}; do sleep 1; done; fi')


def head(spec: ResolvedSpec) -> Text:
    """The name of the first pod, as the others reach it."""
    address = spec.job.nodes.rendezvous.address
    if address is not None:
        return shell(address)
    if _target(spec).api == "pytorchjob":
        return (Ref("run_word"), "-master-0")
    return (Ref("run_word"), "-node-0-0.", Ref("run_word"))


def container(spec: ResolvedSpec, name: str, command: Command) -> dict[str, Any]:
    """The container of a pod."""
    target = _target(spec)
    secrets = [
        {"name": secret, "valueFrom": {"secretKeyRef": {"name": target.secret, "key": secret}}}
        for secret in spec.job.secrets
    ]
    return {
        "name": name,
        "image": target.image,
        "command": ["bash", "-c", script(spec, command)],
        "env": secrets,
        "resources": {"limits": limits(spec)},  # what is asked for is the same where nothing else is said
        "volumeMounts": mounts(target),
    }


def pod(spec: ResolvedSpec) -> dict[str, Any]:
    """What a pod has beside its container; nothing that is empty."""
    target = _target(spec)
    return filled({
        "nodeSelector": {**target.node_selector, **slice_selector(spec)},
        "tolerations": [_toleration(text) for text in target.tolerations],
        "serviceAccountName": target.service_account,
        "imagePullSecrets": [{"name": name} for name in target.image_pull_secrets],
        "terminationGracePeriodSeconds": target.grace_seconds,
        "volumes": [
            {"name": "shm", "emptyDir": filled({"medium": "Memory", "sizeLimit": target.shared_memory})},
            *(_volume(f"volume-{number}", source) for number, source in enumerate(target.volumes.values())),
        ],
    })  # fmt: skip


def filled(block: dict[str, Any]) -> dict[str, Any]:
    """A mapping without the keys that hold nothing."""
    return {key: value for key, value in block.items() if value not in (None, [], {})}


def mounts(target: Kubernetes) -> list[dict[str, Any]]:
    """Where volumes stand in the container."""
    return [
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - not a file of ours
        *(
            filled({"name": f"volume-{number}", "mountPath": path, "readOnly": source.endswith(":ro") or None})
            for number, (path, source) in enumerate(target.volumes.items())
        ),
    ]


def _volume(name: str, source: str) -> dict[str, Any]:
    kind, _, rest = source.removesuffix(":ro").partition(":")
    sources: dict[str, dict[str, Any]] = {
        "claim": {"persistentVolumeClaim": {"claimName": rest}},
        "host": {"hostPath": {"path": rest}},
        "config": {"configMap": {"name": rest}},
        "secret": {"secret": {"secretName": rest}},
        "scratch": {"emptyDir": {"sizeLimit": rest} if rest else {}},
    }
    return {"name": name, **sources[kind]}


def _toleration(taint: str) -> dict[str, Any]:
    rest, _, effect = taint.partition(":")
    key, equals, value = rest.partition("=")
    return filled({
        "key": key,
        "operator": "Equal" if equals else "Exists",
        "value": value if equals else None,
        "effect": effect or None,
    })  # fmt: skip


def limits(spec: ResolvedSpec) -> dict[str, Any]:
    """What a pod may use, and gets."""
    job, target = spec.job, _target(spec)
    found: dict[str, Any] = filled({"cpu": None if target.cpu is None else f"{target.cpu:g}", "memory": target.memory})
    if isinstance(job.hardware, Gpu):
        found[gpu_resource(spec)] = job.processes_per_node
    if isinstance(job.hardware, Tpu):
        found["google.com/tpu"] = _chips(job.hardware)
    return found


def gpu_resource(spec: ResolvedSpec) -> str:
    """The resource by which the cluster counts the job's GPUs."""
    named, hardware = _target(spec).gpu_resource, spec.job.hardware
    amd = isinstance(hardware, Gpu) and (hardware.model or "").startswith("mi")
    return named or ("amd.com/gpu" if amd else "nvidia.com/gpu")


def _chips(hardware: Tpu) -> int:
    found = _generation(hardware)
    if found is None:
        return hardware.per_node
    generation, number = found
    return generation.chips(number) // generation.hosts(number)


def _generation(hardware: object) -> tuple[Generation, int] | None:
    """What the catalogue, which is read for TPUs only, says of a type."""
    if not isinstance(hardware, Tpu) or hardware.type is None:
        return None
    from ...spec.catalogue import tpus

    return tpus().named(hardware.type)


def slice_selector(spec: ResolvedSpec) -> dict[str, str]:
    """The labels by which GKE finds machines of a slice of TPUs."""
    found = _generation(spec.job.hardware)
    if found is None:
        return {}
    generation, number = found
    return {
        "cloud.google.com/gke-tpu-accelerator": generation.gke,
        "cloud.google.com/gke-tpu-topology": generation.topologies.get(str(number), ""),
    }


def _target(spec: ResolvedSpec) -> Kubernetes:
    target = spec.job.target
    if not isinstance(target, Kubernetes):
        raise TypeError("the target `kubernetes` was chosen for a job that has another")
    return target
