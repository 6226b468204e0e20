"""Frequencies and durations."""
