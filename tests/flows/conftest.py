"""Fixtures: one training run by the command, which many tests share, and an empty workspace."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.workspace import Place


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, dict[str, Any]]:
    """A workspace in which `lstm train shops.yaml --json` has run, and its JSON."""
    place = Place(tmp_path_factory.mktemp("trained"))
    place.write()
    done = place.run("train", "shops.yaml", "--json")
    return place, json.loads(done.stdout)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty workspace."""
    return Place(tmp_path)
