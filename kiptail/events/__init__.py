"""Whose drops they are, in which words their owners read of them, and how that gets to the API server."""
