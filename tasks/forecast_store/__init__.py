"""The forecast log and the schedule of its slots."""
