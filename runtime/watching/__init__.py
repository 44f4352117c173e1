"""Processes that keep each other waiting: seen by a thread, judged, and reported with the place of each."""
