"""What learns: networks, losses, training, checkpoints."""
