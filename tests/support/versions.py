"""Registered versions of one name, and decisions between them."""

from tasks.registry.decision import GateDecision
from tasks.registry.versions import alias_version, set_alias
from tasks.tracking import runs

ALIASES = ("champion", "previous", "challenger")


def register_versions(folder, count=5):
    """Register `count` versions of the artifacts in `folder`; version 1 becomes champion."""
    client = runs.client()
    client.create_registered_model("shops")
    for _ in range(count):
        client.create_model_version("shops", folder.as_uri(), await_creation_for=0)
    set_alias("shops", "champion", 1)
    return "shops"


def aliases():
    """Return the aliases that are set, with their versions."""
    return {name: number for name in ALIASES if (number := alias_version("shops", name)) is not None}


def decide(version, champion, against=None):
    """Return the gate's decision on a version."""
    return GateDecision(version, "best-ensemble", champion, f"{version} or {against}", 1.0, 1.0, against)


def better_if_newer(version):
    """Return a judge that prefers the version with the higher number."""
    return lambda incumbent: decide(version, incumbent is None or version > incumbent, incumbent)
