"""Presets: rules that choose lookbacks, networks and sizes from the data."""
