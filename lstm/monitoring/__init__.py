"""Live scores and drift of a deployed model."""
