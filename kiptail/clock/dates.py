"""Times as text, whatever they are: journals, tokens and certificates can say times that no calendar has (pure)."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["LATEST_US", "exact_time", "kubernetes_time", "log_time", "minute"]

#: The last second of the year 9999, in µs since the epoch: neither datetime nor Kubernetes knows a later one.
LATEST_US = 253_402_300_799 * 1_000_000


def kubernetes_time(us: int) -> str:
    """As ``metav1.Time`` is written, in whole seconds; the nearest one to a time that cannot be (before 1970, too)."""
    return _date(min(max(0, us), LATEST_US) // 1_000_000).strftime("%Y-%m-%dT%H:%M:%SZ")


def exact_time(us: int) -> str:
    """As RFC 3339 has it, in UTC and with six digits for the µs; the nearest one to a time that cannot be."""
    seconds, rest = divmod(min(max(0, us), LATEST_US), 1_000_000)
    return f"{_date(seconds):%Y-%m-%dT%H:%M:%S}.{rest:06}Z"


def log_time(us: int) -> str:
    """µs since the epoch, for a log line."""
    try:
        return _date(us / 1e6).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return f"a time that no calendar has ({us} µs)"


def minute(seconds: float) -> str:
    """Seconds since the epoch, to the minute, for people: when something expires."""
    try:
        return _date(seconds).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return "at no time that a calendar has"


def _date(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
