"""A list of the API server's, read page by page, that comes to an end whatever the server says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from kiptail.errors import ApiError

__all__ = ["items_of", "next_page", "pages", "version_of"]


def pages(page: Callable[[str], dict[str, Any]], *, most: int) -> Iterator[dict[str, Any]]:
    """The pages, each asked for with the token of the one before, "" for the first.

    Raises what ``page`` raises, and ApiError for a list of more than ``most`` pages, or whose token stays the same.
    """
    token = ""
    for _ in range(most):
        got = page(token)
        before, token = token, next_page(got)
        yield got
        del got  # a page can be large, and the next one comes now
        if not token:
            return
        if token == before:
            break
    raise ApiError("the API server's list has no end", status=502, reason="BadResponse")


def items_of(page: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects of a page."""
    items = page.get("items")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def next_page(page: dict[str, Any]) -> str:
    """The token of the page that follows, or ""."""
    return _metadata(page, "continue")


def version_of(page: dict[str, Any]) -> str:
    """The resourceVersion of the list, or ""."""
    return _metadata(page, "resourceVersion")


def _metadata(page: dict[str, Any], field: str) -> str:
    metadata = page.get("metadata")
    value = metadata.get(field) if isinstance(metadata, dict) else None
    return value if isinstance(value, str) else ""
