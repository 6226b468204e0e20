"""Configuration: what a YAML file may say, as validated models."""
