"""Processes, locks, network addresses and timestamps of this machine."""
