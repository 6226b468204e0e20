"""Processes and servers that a flow or `lstm up` starts."""
