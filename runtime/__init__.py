"""The runtime: what a training process holds in its hand."""
