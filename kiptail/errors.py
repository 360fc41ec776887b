"""The error tree.

Everything that kiptail raises on purpose is a :class:`KiptailError` whose text is one line that says what is
wrong and what to do; the command line prints it and exits with ``exit_code``. Third-party exceptions are
translated where they occur (``raise … from``) and never leave their module::

    KiptailError                 1  internal error
    ├── SettingsError            2  a flag, variable, TOML file or key
    ├── JournalError             3  the journal is not there or not readable
    ├── ClusterError             4  kubeconfig, certificate, credential or a right: the cluster refuses
    ├── StateError               5  the state directory is unusable or in use
    │   └── StoreUnavailableError   the disk is full: nothing was written, a later try can work
    └── ApiError                 –  one request to the API server failed; its caller decides what follows
"""

from __future__ import annotations

from kiptail.text import one_line

__all__ = [
    "ApiError",
    "ClusterError",
    "JournalError",
    "KiptailError",
    "SettingsError",
    "StateError",
    "StoreUnavailableError",
]


class KiptailError(Exception):
    """Base of all errors that kiptail raises on purpose."""

    exit_code = 1


class SettingsError(KiptailError):
    """A setting that cannot be used; names the option, or the file and key."""

    exit_code = 2


class JournalError(KiptailError):
    """The journal does not exist or may not be read."""

    exit_code = 3


class ClusterError(KiptailError):
    """The cluster refuses: a kubeconfig, certificate, credential or right that waiting will not mend.

    ``remedy`` is what to do, for those who show it apart from the ``problem``; the text has both.
    """

    exit_code = 4

    def __init__(self, problem: str, *, remedy: str = "") -> None:
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy


class StateError(KiptailError):
    """The state directory cannot be used, or another kiptail uses it."""

    exit_code = 5


class StoreUnavailableError(StateError):
    """The state cannot be written just now, for the disk is full: nothing was committed, a later try can work."""


class ApiError(KiptailError):
    """One request to the API server that did not succeed.

    ``status`` is the HTTP status, or None when there was no answer (refused, reset, timed out, TLS).
    ``reason`` and ``causes`` are those of the ``metav1.Status`` body, where there was one.
    ``retry_after`` is in seconds, from the header or the Status. ``remedy`` is what to do about a certificate that
    is not trusted.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        reason: str = "",
        causes: tuple[str, ...] = (),
        retry_after: float | None = None,
        untrusted: bool = False,
        silent: bool = False,
        remedy: str = "",
    ) -> None:
        super().__init__(one_line(message))
        self.status = status
        self.reason = reason
        self.causes = causes
        self.retry_after = retry_after
        #: The server's certificate was not signed by the configured CA, or is for another name.
        self.untrusted = untrusted
        self.remedy = remedy
        #: The connection was there, but nothing came for too long.
        self.silent = silent

    @property
    def unreachable(self) -> bool:
        """Nobody answered."""
        return self.status is None

    @property
    def transient(self) -> bool:
        """A later try can succeed without anybody changing a thing: no answer, 408, 429, 5xx."""
        return self.status is None or self.status in (408, 429) or self.status >= 500
