"""The document: read, composed, checked, resolved.

`resolve` is the whole way from a job file to a `ResolvedSpec`; the readers and checkers it needs are imported by the
stage that needs them.
"""

from .findings import Finding, FindingsError, JobcError, Place, finding
from .model import Job
from .resolved import Beaten, ResolvedSpec, decode_document
from .tree import Origin

__all__ = [
    "Beaten",
    "Finding",
    "FindingsError",
    "Job",
    "JobcError",
    "Origin",
    "Place",
    "ResolvedSpec",
    "decode_document",
    "finding",
]
