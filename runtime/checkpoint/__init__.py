"""Checkpoints: the whole state of a training in a folder, which is there complete or not at all.

`manifest`, `folders` and `verify` import no torch, so that the command line can read checkpoints.
"""
