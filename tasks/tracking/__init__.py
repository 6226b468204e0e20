"""MLflow: connection and runs."""
