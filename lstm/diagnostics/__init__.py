"""Diagnosis of a training run, and the leakage audit."""
