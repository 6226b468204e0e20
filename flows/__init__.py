"""What a schedule or a person starts: wiring only."""
