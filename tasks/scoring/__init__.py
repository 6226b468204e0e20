"""Candidates, baselines and their scores."""
