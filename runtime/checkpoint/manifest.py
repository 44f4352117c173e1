"""What a checkpoint says of itself: `manifest.json`, written last. It is read without torch."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from ...spec.findings import FindingsError, Place, finding

FILE = "manifest.json"
FORMAT = 1


class StoredFile(msgspec.Struct, frozen=True):
    """One file of a checkpoint: its bytes, and a checksum of them (`verify.describe`)."""

    size: int
    checksum: str


class MadeBy(msgspec.Struct, frozen=True, kw_only=True):
    """The processes that wrote a checkpoint. `mesh` has the degrees by which tensors were cut, by name."""

    processes: int
    strategy: str
    mesh: dict[str, int] = {}


class JobOf(msgspec.Struct, frozen=True, kw_only=True):
    """The job that a checkpoint was written by: its resolved values and their sha256."""

    digest: str
    values: dict[str, Any]


class ModelOf(msgspec.Struct, frozen=True, kw_only=True):
    """A prepared model: its class, and names that share the tensor of another name. `stored` False: a hook kept it."""

    kind: str
    aliases: dict[str, str] = {}
    stored: bool = True


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything there is to know of a checkpoint without reading its tensors.

    `sequence` counts the checkpoints of a folder and says which one is newer; `time` is UTC in ISO form. `step` counts
    optimizer steps, `samples` those of the training data, `epoch` the iterations over it that are done. `objects` are
    registered ones by name. `per_rank` names what each process has of its own, which does not carry over to another
    number of processes. `files` are relative to the checkpoint's folder, all below `base` if that is not empty, which
    is the folder that hooks see. `digest` is the sha256 of all other fields.
    """

    format: int = FORMAT
    sequence: int
    step: int
    epoch: int
    samples: int
    time: str
    made_by: MadeBy
    job: JobOf | None = None
    versions: dict[str, str]
    models: tuple[ModelOf, ...] = ()
    optimizers: tuple[str, ...] = ()
    schedulers: tuple[str, ...] = ()
    loaders: int = 0
    objects: tuple[str, ...] = ()
    per_rank: tuple[str, ...] = ()
    files: dict[str, StoredFile]
    base: str = ""
    digest: str = ""

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files.values())


class _Version(msgspec.Struct, frozen=True):
    format: int


def digest_of(values: Any) -> str:
    """The sha256 of plain data in canonical JSON."""
    return hashlib.sha256(msgspec.json.encode(values, order="sorted")).hexdigest()


def encoded(manifest: Manifest) -> bytes:
    """A manifest as it stands in its file, with its digest."""
    signed = msgspec.structs.replace(manifest, digest=_signature(manifest))
    return msgspec.json.format(msgspec.json.encode(signed), indent=2) + b"\n"


def read(folder: Path) -> Manifest:
    """The manifest of a checkpoint's folder.

    Raises:
        FindingsError: J520 there is none, J521 it is damaged, J523 a newer jobc wrote it.
    """
    path = folder / FILE
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise missing(folder) from error
    except OSError as error:
        raise damaged(path, f"it cannot be read: {error.strerror}") from error
    try:
        version = msgspec.json.decode(raw, type=_Version).format
        if version > FORMAT:
            raise _newer(path, version)
        found = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise damaged(path, f"it is no manifest: {error}") from error
    if _signature(found) != found.digest:
        raise damaged(path, "its content is not what was written: its digest differs")
    return found


def missing(folder: Path) -> FindingsError:
    """J520: a folder is no complete checkpoint."""
    what = "it is a file" if folder.is_file() else "there is no such folder"
    what = "it has no manifest, which is written last" if folder.is_dir() else what
    cause = f"`{folder}` is no complete checkpoint: {what}"
    step = "name the folder of a checkpoint; `jobc checkpoint ls FOLDER` lists those of a folder"
    return FindingsError((finding("J520", cause, place=Place(source=str(folder)), next_step=step),))


def damaged(path: Path, why: str, step: str | None = None) -> FindingsError:
    """J521: a file of a checkpoint is not what was written."""
    found = finding("J521", f"`{path.name}` of a checkpoint is damaged: {why}", place=Place(source=str(path)))
    return FindingsError((msgspec.structs.replace(found, next_step=step),))


def _newer(path: Path, version: int) -> FindingsError:
    cause = f"the checkpoint has format {version}, and this jobc reads formats up to {FORMAT}"
    step = "load it with the version of jobc that wrote it, or a later one"
    return FindingsError((finding("J523", cause, place=Place(source=str(path)), next_step=step),))


def _signature(manifest: Manifest) -> str:
    return digest_of(msgspec.structs.replace(manifest, digest=""))
