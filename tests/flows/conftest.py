"""One real training run, through the command, that the tests of this folder look at from all sides."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.workspace import Place


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, dict[str, Any]]:
    """A place where `lstm train shops.yaml --json` has run, and what it printed."""
    place = Place(tmp_path_factory.mktemp("trained"))
    place.write()
    done = place.run("train", "shops.yaml", "--json")
    return place, json.loads(done.stdout)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A fresh place."""
    return Place(tmp_path)
