"""`lstm up`: Prefect, MLflow and a worker on this machine."""
