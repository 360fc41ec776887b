"""The session of the day: its credentials are read again when their files change, and after a 401."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from kiptail.clock.trouble import Trouble
from kiptail.credentials.files import stamp
from kiptail.errors import ClusterError
from kiptail.kube.session import Session

__all__ = ["CurrentSession"]

log = logging.getLogger(__name__)


class CurrentSession:
    """One session at a time, for any number of threads."""

    def __init__(
        self,
        opener: Callable[[Callable[[], bool]], Session],
        *,
        files_check_s: float,
        on_unauthorized: Callable[[Session], object] | None = None,
    ) -> None:
        """``opener`` reads the credentials, until the function that it is given says to stop. Raises ClusterError.

        ``on_unauthorized`` gets a session that the API server answered 401, before the credentials are read again.
        """
        self._opener = opener
        self._files_check_s = files_check_s
        self._on_unauthorized = on_unauthorized
        #: Held while credentials are read, which may run a plugin: not for anything that close() needs.
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        #: The one in use. Who gets it may find another here when a request is over: then nobody else closes it.
        self.latest = opener(self._stopped.is_set)
        self._check_at = time.monotonic() + files_check_s
        self._trouble = Trouble()

    def stop(self) -> None:
        """Break off the reading of credentials; they will not be read again."""
        self._stopped.set()

    def close(self) -> None:
        """Close the session's connections."""
        self.stop()
        self.latest.close()

    def reload(self) -> None:
        """Read the credentials again. Raises ClusterError; the old ones stay in use then."""
        with self._lock:
            self._replace()

    def renew(self, session: Session, *, refused: bool) -> None:
        """Replace the credentials that got a 401, if no other thread has done so. Raises as :meth:`reload`.

        ``refused``: by the API server. A gateway's page is worth another look at the credentials, for it may be the
        gateway that knows them, but says nothing about the token.
        """
        with self._lock:
            if self.latest is session:
                if refused and self._on_unauthorized is not None:
                    self._on_unauthorized(session)
                self._replace()

    def fresh(self) -> Session:
        """The session; a new one if a file it came from has changed. One that is being rewritten can wait."""
        if time.monotonic() < self._check_at:
            return self.latest
        with self._lock:
            if (began := time.monotonic()) >= self._check_at:
                try:
                    changed = any(stamp(path) != old for path, old in self.latest.stamps.items())
                    if changed or self.latest.credential.outdated():
                        self._replace()
                except ClusterError as error:
                    if self._trouble.changes(str(error)):
                        log.warning("still using the old credentials: %s", error)
                # What a plugin took is paused, too: with one that hangs, the old credentials have their turn.
                now = time.monotonic()
                self._check_at = now + max(self._files_check_s, now - began)
            return self.latest

    def _replace(self) -> None:
        """With the lock held."""
        old, self.latest = self.latest, self._opener(self._stopped.is_set)
        old.close()
        self._trouble.ends()
