"""What the registry loads: a Forecaster behind MLflow's pyfunc interface, as code and not as a pickle."""

from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from lstm.errors import InputError
from lstm.forecaster import Forecaster


class Refused(MlflowException):
    """Bad input, told in one line: over HTTP status 400, and that line as `message`."""

    def __init__(self, line: str) -> None:
        """`line` says where, the rule, what was found, and the fix."""
        super().__init__(line, error_code=INVALID_PARAMETER_VALUE)
        self._line = line

    def serialize_as_json(self) -> str:
        """Without what the scoring server puts before the message: all of the data that it was sent."""
        self.message = self._line
        return str(super().serialize_as_json())  # type: ignore[no-untyped-call]


class ServedModel(PythonModel):
    """Raw history in; series, time, forecast and intervals out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the forecaster from the version's artifacts."""
        self.forecaster = Forecaster.load(context.artifacts["forecaster"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Forecast; params are `horizon` and `levels`, as `Forecaster.forecast` takes them.

        Raises:
            Refused: the history, the horizon or a level breaks a rule.
        """
        asked = params or {}
        try:
            return self.forecaster.forecast(model_input, asked.get("horizon"), asked.get("levels", (80, 95)))
        except InputError as error:
            raise Refused(str(error)) from None


mlflow.models.set_model(ServedModel())
