"""Machines with TPUs as gcloud makes, reaches and removes them: one class for each way, chosen in one table.

With Cloud TPU a slice is one thing with several workers; in Compute Engine it is an instance, or a managed group of
them with a policy that says how their chips are connected. All that belongs to it has the same name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ...spec import ResolvedSpec
from ...spec.hardware import Tpu
from ...spec.targets import TpuPod
from ..launchers.base import joined
from ..plan import Argv, Command, Ref, Report, RunCommand, Standing, Step, Text, WriteFile
from ..quoting import script_word

if TYPE_CHECKING:
    from ...spec.catalogue import Generation

#: Fields that say how machines are made.
MAKING = (
    "capacity", "reservation", "valid_until", "max_minutes", "runtime_version", "image", "boot_disk_gb", "data_disks",
    "network", "subnetwork", "service_account", "tags", "labels", "create_args",
)  # fmt: skip
#: Those of them that not every way has, and the ways that do.
ONLY: dict[str, tuple[str, ...]] = {
    "reservation": ("compute_engine",),
    "valid_until": ("queued_resource", "compute_engine"),
    "max_minutes": ("queued_resource", "compute_engine"),
    "runtime_version": ("tpu_vm", "queued_resource"),
    "image": ("compute_engine",),
    "boot_disk_gb": ("compute_engine",),
}
_BOOT_DISK_GB = 200
_QUEUED: dict[str, Standing] = {
    "ACCEPTED": "pending",
    "WAITING_FOR_RESOURCES": "pending",
    "PROVISIONING": "pending",
    "CREATING": "pending",
    "ACTIVE": "succeeded",
    "FAILED": "failed",
    "SUSPENDING": "failed",
    "SUSPENDED": "failed",
    "DELETING": "failed",
}


class Machines(Protocol):
    """How the machines of a job are made, reached and removed."""

    def scripts(self, spec: ResolvedSpec) -> tuple[WriteFile, ...]:
        """Files that the commands below need in the run's folder."""
        ...

    def make(self, spec: ResolvedSpec) -> tuple[Step, ...]:
        """The steps that make them."""
        ...

    def remove(self, spec: ResolvedSpec) -> tuple[RunCommand, ...]:
        """The steps that remove them."""
        ...

    def look(self, spec: ResolvedSpec) -> Argv | None:
        """A command that prints the state of the slice; None where there is none for all of it."""
        ...

    def everywhere(self, spec: ResolvedSpec, command: Text) -> Argv:
        """A command that has the shell of every machine carry out a line."""
        ...

    def copied(self, spec: ResolvedSpec, source: Text, to: Text) -> Argv:
        """A command that copies a file or folder of this machine to every machine, below the home folder."""
        ...

    def gate(self, spec: ResolvedSpec) -> Argv:
        """A command that fails where the cloud would not give such machines to this user."""
        ...


def machines(spec: ResolvedSpec) -> Machines:
    """How the machines of a job are had."""
    way = target_of(spec).way
    return _GROUP if way == "compute_engine" and spec.job.nodes.count > 1 else _WAYS[way]


def target_of(spec: ResolvedSpec) -> TpuPod:
    """The job's target."""
    target = spec.job.target
    if not isinstance(target, TpuPod):
        raise TypeError("the target `tpu_pod` was chosen for a job that has another")
    return target


def slice_of(spec: ResolvedSpec) -> tuple[Generation, int] | None:
    """The generation of the job's TPUs and the number of their type."""
    hardware = spec.job.hardware
    from ...spec.catalogue import tpus  # few jobs name a type

    return tpus().named(hardware.type) if isinstance(hardware, Tpu) and hardware.type is not None else None


def run(*argv: Text, title: str = "gcloud") -> RunCommand:
    """A step that runs a command."""
    return RunCommand(command=Command(argv=argv, title=title))


def line(argv: Argv) -> Text:
    """A command line as a line of a script, in which the executor fills in what is not known yet."""
    return joined(*(part for index, word in enumerate(argv) for part in ((" " if index else ""), script_word(word))))


def _type(spec: ResolvedSpec) -> tuple[Generation, int]:
    found = slice_of(spec)
    if found is None:
        raise ValueError("a job without a type of TPU was planned")
    return found


def _name(spec: ResolvedSpec) -> Text:
    return target_of(spec).name or (Ref("run_word"),)


def _project(spec: ResolvedSpec) -> Argv:
    project = target_of(spec).project
    return () if project is None else (f"--project={project}",)


def _place(spec: ResolvedSpec) -> Argv:
    return (f"--zone={target_of(spec).zone}", *_project(spec))


def _region(spec: ResolvedSpec) -> str:
    return (target_of(spec).zone or "").rpartition("-")[0]


def _reached(spec: ResolvedSpec) -> Argv:
    return (*_place(spec), *(("--internal-ip",) if target_of(spec).internal_ips else ()))


def _at(spec: ResolvedSpec, name: Text) -> Text:
    user = target_of(spec).user
    return name if user is None else joined(f"{user}@", name)


def _seconds(minutes: float) -> str:
    return f"{max(1, round(minutes * 60))}s"


def _common(target: TpuPod, subnetwork: str, inside: str) -> Argv:
    """Flags that every way knows; two of them by other names."""
    return (
        *((f"--network={target.network}",) if target.network else ()),
        *((f"--{subnetwork}={target.subnetwork}",) if target.subnetwork else ()),
        *((f"--{inside}",) if target.internal_ips else ()),
        *((f"--service-account={target.service_account}",) if target.service_account else ()),
        *((f"--tags={','.join(target.tags)}",) if target.tags else ()),
        *(
            (f"--labels={','.join(f'{key}={value}' for key, value in sorted(target.labels.items()))}",)
            * bool(target.labels)
        ),
    )


class _TpuVm:
    """The Cloud TPU API: the slice is made at once, or not at all."""

    def scripts(self, spec: ResolvedSpec) -> tuple[WriteFile, ...]:  # noqa: ARG002 - one command reaches all
        return ()

    def make(self, spec: ResolvedSpec) -> tuple[Step, ...]:
        target, version = target_of(spec), _runtime(spec)
        return (
            run("gcloud", "compute", "tpus", "tpu-vm", "create", _name(spec), *_place(spec),
                f"--accelerator-type={_accelerator(spec)}", f"--version={version}",
                *_CLOUD_TPU[target.capacity], *_cloud_tpu(spec), *target.create_args),
        )  # fmt: skip

    def remove(self, spec: ResolvedSpec) -> tuple[RunCommand, ...]:
        return (run("gcloud", "compute", "tpus", "tpu-vm", "delete", _name(spec), *_place(spec), "--quiet"),)

    def look(self, spec: ResolvedSpec) -> Argv | None:
        name = _name(spec)
        return ("gcloud", "compute", "tpus", "tpu-vm", "describe", name, *_place(spec), "--format=value(state)")

    def everywhere(self, spec: ResolvedSpec, command: Text) -> Argv:
        return ("gcloud", "compute", "tpus", "tpu-vm", "ssh", _at(spec, _name(spec)), "--worker=all", *_reached(spec),
                *target_of(spec).ssh_args, joined("--command=", command))  # fmt: skip

    def copied(self, spec: ResolvedSpec, source: Text, to: Text) -> Argv:
        return ("gcloud", "compute", "tpus", "tpu-vm", "scp", "--recurse", source,
                joined(_at(spec, _name(spec)), ":", to), "--worker=all", *_reached(spec),
                *target_of(spec).scp_args)  # fmt: skip

    def gate(self, spec: ResolvedSpec) -> Argv:
        if target_of(spec).existing:
            return self.look(spec) or ()
        return ("gcloud", "compute", "tpus", "accelerator-types", "describe", _accelerator(spec), *_place(spec))


class _QueuedResource(_TpuVm):
    """The same, asked for in a queue."""

    def make(self, spec: ResolvedSpec) -> tuple[Step, ...]:
        target, name = target_of(spec), _name(spec)
        flex = target.capacity == "flex_start"
        resources: Argv = ("gcloud", *(("alpha",) if flex else ()), "compute", "tpus", "queued-resources")
        asked = (
            *resources, "create", name, *_place(spec), joined("--node-id=", name),
            f"--accelerator-type={_accelerator(spec)}", f"--runtime-version={_runtime(spec)}",
            *(("--provisioning-model=flex-start",) if flex else _CLOUD_TPU[target.capacity]),
            *((f"--max-run-duration={_seconds(target.max_minutes)}",) if target.max_minutes is not None else ()),
            *((f"--valid-until-duration={target.valid_until}",) if target.valid_until is not None else ()),
            *_cloud_tpu(spec), *target.create_args,
        )  # fmt: skip
        state = ("gcloud", "compute", "tpus", "queued-resources", "describe", name, *_place(spec))
        waiting = Report(
            command=Command(argv=(*state, "--format=value(state.state)"), title="gcloud"),
            pattern=r"^(?P<word>[A-Z_]+)$",
            states=_QUEUED,
            every=30,
        )
        return (run(*asked), waiting)

    def remove(self, spec: ResolvedSpec) -> tuple[RunCommand, ...]:
        queue = ("gcloud", "compute", "tpus", "queued-resources", "delete", _name(spec), *_place(spec))
        return (run(*queue, "--force", "--quiet"),)


class _Instance:
    """Compute Engine: one machine."""

    def scripts(self, spec: ResolvedSpec) -> tuple[WriteFile, ...]:  # noqa: ARG002 - one command reaches all
        return ()

    def make(self, spec: ResolvedSpec) -> tuple[Step, ...]:
        words = ("gcloud", "compute", "instances", "create", _name(spec), *_place(spec))
        return (run(*words, *_engine(spec, disk_mode="rw")),)

    def remove(self, spec: ResolvedSpec) -> tuple[RunCommand, ...]:
        return (run("gcloud", "compute", "instances", "delete", _name(spec), *_place(spec), "--quiet"),)

    def look(self, spec: ResolvedSpec) -> Argv | None:
        return ("gcloud", "compute", "instances", "describe", _name(spec), *_place(spec), "--format=value(status)")

    def everywhere(self, spec: ResolvedSpec, command: Text) -> Argv:
        return ("gcloud", "compute", "ssh", _at(spec, _name(spec)), *_reached(spec), *target_of(spec).ssh_args,
                joined("--command=", command))  # fmt: skip

    def copied(self, spec: ResolvedSpec, source: Text, to: Text) -> Argv:
        there = joined(_at(spec, _name(spec)), ":", to)
        return ("gcloud", "compute", "scp", "--recurse", source, there, *_reached(spec), *target_of(spec).scp_args)

    def gate(self, spec: ResolvedSpec) -> Argv:
        if target_of(spec).existing:
            return self.look(spec) or ()
        generation, number = _type(spec)
        return ("gcloud", "compute", "machine-types", "describe", generation.machine(number), *_place(spec))


class _Group:
    """Compute Engine: machines that are made together, all or none, with chips that are connected."""

    def scripts(self, spec: ResolvedSpec) -> tuple[WriteFile, ...]:
        return (WriteFile(path=_EACH, content=_each(spec)),)

    def make(self, spec: ResolvedSpec) -> tuple[Step, ...]:
        target, name, region = target_of(spec), _name(spec), _region(spec)
        generation, number = _type(spec)
        where = f"projects/{target.project}/regions/{region}"
        inside = (f"--region={region}",) if target.subnetwork else ()  # that of the subnetwork
        return (
            run("gcloud", "compute", "resource-policies", "create", "workload-policy", name, f"--region={region}",
                *_project(spec), "--type=HIGH_THROUGHPUT",
                f"--accelerator-topology={generation.topologies[str(number)]}"),
            run("gcloud", "compute", "instance-templates", "create", name, f"--instance-template-region={region}",
                *inside, *_project(spec), *_engine(spec, disk_mode="ro")),
            run(*_MANAGED, "create", name, *_place(spec), "--size=0",
                joined(f"--template={where}/instanceTemplates/", name),
                "--target-size-policy-mode=bulk", "--default-action-on-vm-failure=do-nothing",
                joined(f"--workload-policy={where}/resourcePolicies/", name)),
            run(*_MANAGED, "resize", name, *_place(spec), f"--size={spec.job.nodes.count}"),
            run(*_MANAGED, "wait-until", name, *_place(spec), "--stable"),
        )  # fmt: skip

    def remove(self, spec: ResolvedSpec) -> tuple[RunCommand, ...]:
        name, region = _name(spec), f"--region={_region(spec)}"
        return (
            run(*_MANAGED, "delete", name, *_place(spec), "--quiet"),
            run("gcloud", "compute", "instance-templates", "delete", name, region, *_project(spec), "--quiet"),
            run("gcloud", "compute", "resource-policies", "delete", name, region, *_project(spec), "--quiet"),
        )

    def look(self, spec: ResolvedSpec) -> Argv | None:  # noqa: ARG002 - it has a state for each of its machines only
        return None

    def everywhere(self, spec: ResolvedSpec, command: Text) -> Argv:
        words = (*_reached(spec), *target_of(spec).ssh_args, joined("--command=", command))
        return ("bash", _EACH, "ssh", _at(spec, ""), *words)

    def copied(self, spec: ResolvedSpec, source: Text, to: Text) -> Argv:
        words = (*_reached(spec), *target_of(spec).scp_args)
        return ("bash", _EACH, "scp", _at(spec, ""), *words, source, to)

    def gate(self, spec: ResolvedSpec) -> Argv:
        if target_of(spec).existing:
            return (*_MANAGED, "describe", _name(spec), *_place(spec))
        return _INSTANCE.gate(spec)


_MANAGED = ("gcloud", "compute", "instance-groups", "managed")
_EACH: Text = (Ref("run_dir"), "/each.sh")


def _each(spec: ResolvedSpec) -> Text:
    """A script that reaches every instance of a group, all at the same time; their names are known when it runs."""
    listed = (*_MANAGED, "list-instances", _name(spec), *_place(spec), "--format=value(instance.basename())")
    return joined(
        "# Reaches each machine of the group: ssh USER@ FLAGS, or scp USER@ FLAGS FILE FOLDER.\n",
        "names=$(", line(listed), ") || exit\n",
        "pids=() failed=0\nfor instance in $names; do\n",
        '  case $1 in\n    ssh) gcloud compute ssh "$2$instance" "${@:3}" & ;;\n',
        '    scp) gcloud compute scp --recurse "${@:3:$#-4}" -- "${@: -2:1}" "$2$instance:${*: -1}" & ;;\n  esac\n',
        '  pids+=("$!")\ndone\n',
        f'if [ "${{#pids[@]}}" -ne {spec.job.nodes.count} ]; then\n',
        f'  echo "jobc: the group has ${{#pids[@]}} machines, and the job {spec.job.nodes.count} nodes" >&2\n',
        '  failed=1\nfi\nfor pid in "${pids[@]}"; do wait "$pid" || failed=$?; done\nexit "$failed"\n',
    )  # fmt: skip


_CLOUD_TPU: dict[str, Argv] = {"on_demand": (), "spot": ("--spot",), "reserved": ("--reserved",)}


def _accelerator(spec: ResolvedSpec) -> str:
    hardware = spec.job.hardware
    return (hardware.type or "") if isinstance(hardware, Tpu) else ""


def _runtime(spec: ResolvedSpec) -> str:
    return target_of(spec).runtime_version or _type(spec)[0].runtime_version


def _cloud_tpu(spec: ResolvedSpec) -> Argv:
    target = target_of(spec)
    mode = "read-only" if spec.job.nodes.count > 1 else "read-write"
    where = f"projects/{target.project}/zones/{target.zone}/disks"
    disks = tuple(f"--data-disk=source={where}/{disk},mode={mode}" for disk in target.data_disks)
    return (*_common(target, "subnetwork", "internal-ips"), *disks)


_TAKEN_AWAY = "--instance-termination-action=DELETE"


def _engine(spec: ResolvedSpec, disk_mode: str) -> Argv:
    """Flags of an instance and of a template of instances."""
    target, (generation, number) = target_of(spec), _type(spec)
    project, _, family = (target.image or generation.image).partition("/")
    limited = target.capacity != "on_demand" or target.max_minutes is not None
    models = {"on_demand": "STANDARD", "spot": "SPOT", "reserved": "RESERVATION_BOUND", "flex_start": "FLEX_START"}
    return (
        f"--machine-type={generation.machine(number)}",
        f"--image-project={project}",
        f"--image-family={family}",
        "--maintenance-policy=TERMINATE",
        "--scopes=cloud-platform",
        f"--boot-disk-size={target.boot_disk_gb or _BOOT_DISK_GB}GB",
        *((f"--boot-disk-type={generation.boot_disk}",) if generation.boot_disk else ()),
        f"--provisioning-model={models[target.capacity]}",
        *((_TAKEN_AWAY,) if limited else ()),
        *(("--reservation-affinity=specific", f"--reservation={target.reservation}") if target.reservation else ()),
        *((f"--max-run-duration={_seconds(target.max_minutes)}",) if target.max_minutes is not None else ()),
        *((f"--request-valid-for-duration={target.valid_until}",) if target.valid_until is not None else ()),
        *_common(target, "subnet", "no-address"),
        *(f"--disk=name={disk},mode={disk_mode}" for disk in target.data_disks),
        *target.create_args,
    )


_INSTANCE = _Instance()
_GROUP = _Group()
_WAYS: dict[str, Machines] = {"tpu_vm": _TpuVm(), "queued_resource": _QueuedResource(), "compute_engine": _INSTANCE}
