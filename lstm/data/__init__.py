"""What goes in: tables, calendars, splits, normalisation, windows."""
