"""One file a step: the only place for Prefect tasks, MLflow and Optuna."""
