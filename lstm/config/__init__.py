"""Configuration models: the sections of a YAML file, validated."""
