"""What an object is refused for that the API server would not have taken."""

from __future__ import annotations

__all__ = ["Malformed"]


class Malformed(ValueError):
    """The text says which field and why, and quotes nothing of the object but names of fields."""
