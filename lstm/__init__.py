"""Time-series forecasting with LSTMs: data, networks, ensembles, intervals and evaluation.

The library does not import Prefect, MLflow or Optuna; `tasks/` and `flows/` do.
Names are imported on first use, so that `import lstm` costs milliseconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lstm.data.normalize import DataNormalizer
    from lstm.forecasting.forecaster import Forecaster
    from lstm.model import LSTMModel

_MODULES = {
    "DataNormalizer": "lstm.data.normalize",
    "Forecaster": "lstm.forecasting.forecaster",
    "LSTMModel": "lstm.model",
}

__all__ = ["DataNormalizer", "Forecaster", "LSTMModel"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'lstm' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
