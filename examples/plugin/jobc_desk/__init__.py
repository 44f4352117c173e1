"""Trains on the machine that you work at."""
