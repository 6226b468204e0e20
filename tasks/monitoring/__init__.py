"""Results of a monitoring run: plots and MLflow logging."""
