"""How the facts are found: files, programs, requests."""
