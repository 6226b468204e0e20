"""What the registry loads: a Forecaster behind MLflow's pyfunc interface, as code and not as a pickle."""

from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from lstm.errors import InputError
from lstm.forecaster import Forecaster


class ServedModel(PythonModel):
    """Raw history in; series, time, forecast and intervals out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the forecaster from the version's artifacts."""
        self.forecaster = Forecaster.load(context.artifacts["forecaster"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Forecast; bad input is answered with our one line, over HTTP as status 400."""
        asked = params or {}
        horizon = int(asked.get("horizon", 0)) or None
        try:
            return self.forecaster.forecast(
                model_input, horizon, [int(level) for level in asked.get("levels", (80, 95))]
            )
        except InputError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from None


mlflow.models.set_model(ServedModel())
