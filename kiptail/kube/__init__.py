"""The API server: its paths and bodies, sessions, requests with deadlines, watches, answers that are none."""
