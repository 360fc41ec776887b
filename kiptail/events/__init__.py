"""Whose drops they are, in which words their owners are told, and how that gets to the API server."""
