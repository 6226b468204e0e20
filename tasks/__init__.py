"""One file a step: the only place for Prefect tasks, MLflow and Optuna."""

from tasks.settings import quiet_environment

quiet_environment()  # before any task imports prefect or mlflow, in whichever process
