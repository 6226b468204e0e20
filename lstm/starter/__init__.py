"""`lstm init`: from a look at a table to a configuration, each guess with its reason."""
