"""Forecasters: ensembles, intervals, rolling forward, saving and loading."""
