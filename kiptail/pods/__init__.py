"""Who owned an address at a time."""
