"""Presets: rules that choose look-backs, networks and sizes from the data."""
