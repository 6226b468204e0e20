"""What is it worth: metrics, baselines, intervals."""
