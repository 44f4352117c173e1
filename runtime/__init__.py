"""The runtime: what a training process holds in its hand."""

from .tracebacks import install as _install

_install()
