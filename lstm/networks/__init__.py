"""Networks, their losses, training and checkpoints."""
