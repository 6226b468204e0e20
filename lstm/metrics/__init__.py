"""Metrics, their breakdowns and their bootstrap intervals."""
