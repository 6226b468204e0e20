"""The data profile: coverage, distributions, tests of the series, and advice."""
