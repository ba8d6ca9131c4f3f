"""Where a collaboration runs."""
