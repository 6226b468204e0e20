"""The steps of the pipeline and their packages: the only place for Prefect tasks, MLflow and Optuna."""

from tasks.settings import set_default_environment

set_default_environment()  # must run before prefect or mlflow are imported
