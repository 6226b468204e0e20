"""Time-series forecasting with LSTMs: windows, networks, ensembles and honest evaluation.

The library knows nothing of Prefect, MLflow or Optuna; `tasks/` and `flows/` bring those.
Names are imported on first use, so that `import lstm` costs milliseconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lstm.data.normalize import DataNormalizer
    from lstm.forecasting.forecaster import Forecaster
    from lstm.model import LSTMModel

_HOMES = {
    "DataNormalizer": "lstm.data.normalize",
    "Forecaster": "lstm.forecasting.forecaster",
    "LSTMModel": "lstm.model",
}

__all__ = ["DataNormalizer", "Forecaster", "LSTMModel"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lstm' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
