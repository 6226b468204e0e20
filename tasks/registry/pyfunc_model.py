"""The pyfunc model that wraps a forecaster; MLflow packages this file as code, without a pickle."""

from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from lstm.errors import InputError
from lstm.forecasting.forecaster import Forecaster


class InvalidInput(MlflowException):
    """Invalid input: HTTP status 400 with one line as `message`."""

    def __init__(self, line: str) -> None:
        """Keep `line`: where, the rule, the value and the fix."""
        super().__init__(line, error_code=INVALID_PARAMETER_VALUE)
        self._line = line

    def serialize_as_json(self) -> str:
        """Return the JSON answer, without the request data that the scoring server puts before the message."""
        self.message = self._line
        return str(super().serialize_as_json())  # type: ignore[no-untyped-call]


class ServedModel(PythonModel):
    """Forecast from raw history: a frame with series, time, forecast and interval bounds."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the forecaster from the version's artifacts."""
        self.forecaster = Forecaster.load(context.artifacts["forecaster"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return forecasts; `params` may hold `horizon` and `levels`, see `Forecaster.forecast`.

        Raises:
            InvalidInput: the history, the horizon or a level breaks a rule.
        """
        params = params or {}
        try:
            return self.forecaster.forecast(model_input, params.get("horizon"), params.get("levels", (80, 95)))
        except InputError as error:
            raise InvalidInput(str(error)) from None


mlflow.models.set_model(ServedModel())
