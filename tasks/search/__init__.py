"""The hyperparameter search: Optuna study, workers, leases, results."""
