"""The command `lstm`."""
