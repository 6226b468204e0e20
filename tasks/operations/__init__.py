"""Clean-up and repair: doctor, reconcile, retention."""
