"""Fixtures of the tests of tasks: an empty MLflow store and a saved forecaster."""

import shutil

import pytest

from lstm.config.data import DataSpec
from tasks.tracking.connection import create_tables
from tests.support.forecasters import make_forecaster
from tests.support.tables import DATA, make_hourly


@pytest.fixture(scope="session")
def tables(tmp_path_factory):
    """An MLflow database with empty tables: creating them takes seconds, copying none."""
    path = tmp_path_factory.mktemp("tables") / "mlflow.db"
    create_tables(path)
    return path


@pytest.fixture
def store(home, tables):
    """A home with an empty MLflow store."""
    home.mkdir(exist_ok=True)
    shutil.copy(tables, home / "mlflow.db")
    return home


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A folder with a saved forecaster of untrained networks."""
    spec = DataSpec.parse({**DATA, "calendar": {"features": ["hour"]}})
    folder = tmp_path_factory.mktemp("saved")
    make_forecaster(spec, make_hourly()).save(folder)
    return folder
