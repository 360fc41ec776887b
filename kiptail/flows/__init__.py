"""Which drops belong together, and how many there are."""
