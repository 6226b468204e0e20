"""`lstm init`: guess a configuration from the first rows of a table, each value with its reason."""
