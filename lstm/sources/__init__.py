"""Where tables come from: files, folders, addresses, databases, and data sets that have a name."""
