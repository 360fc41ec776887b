"""Renews the service account's token that kiptail itself runs with, for nobody else does it for a host.

A kubeconfig made by ``kiptail kubeconfig`` holds a token that expires. At 80 % of its life kiptail asks for another
(a TokenRequest on its own service account, a right that names that account alone) and keeps it in the state
directory. Of the kubeconfig's token and the kept one, the one that was issued last is used, so that a new kubeconfig
takes effect too. Tokens of anybody else, from a file, a plugin or a certificate, are left alone.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from kiptail.clock.dates import minute
from kiptail.clock.pacing import Backoff
from kiptail.clock.trouble import Trouble
from kiptail.credentials.files import CREDENTIAL_BYTES, why, write_secret
from kiptail.credentials.identity import Identity, grant_remedy
from kiptail.credentials.tokens import Claims, choose_token, claims_of, renew_at
from kiptail.errors import ApiError, ClusterError, KiptailError
from kiptail.text import one_line

__all__ = ["TOKEN_FILE", "KeptToken", "Renewer", "TokenApi"]

log = logging.getLogger(__name__)

#: The renewed token, in the state directory.
TOKEN_FILE = "token"  # noqa: S105 - a file name
#: Seconds until a renewal that failed is tried again: the first pause, which doubles up to the last one.
RETRY_FIRST, RETRY_LAST = 30.0, 900.0
#: Seconds until the next look at the latest, for the clock may be set and the kubeconfig replaced.
LOOK_INTERVAL = 60.0
#: The API refuses to issue tokens for less than ten minutes.
SHORTEST = 600

_RIGHT = "create serviceaccounts/token"


class KeptToken:
    """The renewed token's file, of mode 0600."""

    def __init__(self, path: Path, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._path, self._wall = path, wall_clock
        self._refused: set[str] = set()
        self._kept: str | None = None
        #: Why the file is of no use.
        self._trouble = Trouble()

    def choose(self, given: str) -> str:
        """The token to use, where the kubeconfig has ``given``."""
        stored = self._kept or self._read()
        return choose_token(given, stored, refused=self._refused, now=self._wall()) if stored else given

    def refused(self, token: str) -> None:
        """The API server did not accept it; forgotten once there is another."""
        if len(self._refused) < 16:  # two are in use, a third arrives by a new kubeconfig
            self._refused.add(token)

    def keep(self, token: str) -> None:
        """Use it from now on. Raises OSError when it cannot be stored: it is good until this process ends then."""
        self._kept = token
        self._refused.clear()
        write_secret(self._path, token.encode() + b"\n")
        self._kept = None

    def _read(self) -> str:
        """The stored token; "" where there is none, or none that can be used, of which a word is said."""
        try:
            # As it is a FIFO, or a device, opening it might never end.
            fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(fd, "rb") as file:
                data = file.read(CREDENTIAL_BYTES + 1) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
        except FileNotFoundError:
            return ""  # none yet
        except OSError as error:
            return self._useless(f"cannot be read: {why(error)}")
        token = data.decode(errors="replace").strip()
        if claims_of(token) is None:
            return self._useless("holds no token")
        self._trouble.ends()
        return token

    def _useless(self, trouble: str) -> str:
        if self._trouble.changes(trouble):
            log.warning("the renewed token %s %s; the kubeconfig's is used", self._path, trouble)
        return ""


class TokenApi(Protocol):
    """What is asked of the API server and its credential. Requests raise :class:`~kiptail.errors.ApiError`."""

    def claims(self) -> Claims | None:
        """What the token in use says of itself. Raises ClusterError."""

    def claimed(self) -> Identity:
        """Whom the kubeconfig says that this is."""

    def request_token(self, namespace: str, name: str, *, seconds: int) -> str:
        """A new token."""

    def allowed(self, verb: str, resource: str, *, namespace: str, name: str) -> bool | None:
        """Whether that may be done; None when it cannot be asked."""

    def reload(self) -> None:
        """Read the credentials again. Raises ClusterError."""


class Renewer:
    """Renews in time, from a thread of its own."""

    def __init__(self, api: TokenApi, kept: KeptToken, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._api, self._kept, self._wall = api, kept, wall_clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kiptail-renewal", daemon=True)
        self._retries = Backoff(RETRY_FIRST, RETRY_LAST, jitter=0.0)
        self._asked: Claims | None = None
        self._trouble = Trouble()

    @property
    def trouble(self) -> str:
        """Why the token cannot be renewed at present, or ""."""
        return self._trouble.text

    def start(self) -> None:
        """Begin to look after the token."""
        self._thread.start()

    def close(self) -> None:
        """End the thread; a request that is under way ends with the API client."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(2.0)

    def step(self) -> float:
        """Renew if it is time; returns how many seconds to wait before the next look."""
        try:
            claims = self._api.claims()
        except (ClusterError, ApiError):
            return LOOK_INTERVAL  # said by those who send requests
        due = renew_at(claims) if claims is not None else None
        if claims is None or claims.account is None or due is None:
            self._trouble.ends()
            return LOOK_INTERVAL
        now = self._wall()
        if now < due:
            self._ask_first(claims)
            return min(due - now, LOOK_INTERVAL)
        return self._renew(claims, now)

    def _ask_first(self, claims: Claims) -> None:
        """Say long before that it will not work."""
        if self._asked == claims:
            return
        namespace, name = claims.account or ("", "")
        try:
            allowed = self._api.allowed("create", "serviceaccounts/token", namespace=namespace, name=name)
        except ApiError:
            return  # asked again at the next look
        self._asked = claims
        self._trouble.ends()
        if allowed is False:
            self._complain(
                f"the token of {namespace}/{name} cannot be renewed and expires {_moment(claims.expires)}:"
                f" no right to {_RIGHT} for it; {self._how_to_grant(claims)}"
            )

    def _renew(self, claims: Claims, now: float) -> float:
        namespace, name = claims.account or ("", "")
        issued, expires = claims.issued or now, claims.expires or now
        seconds = max(SHORTEST, round(expires - issued))
        try:
            token = self._api.request_token(namespace, name, seconds=seconds)
            fresh = claims_of(token)
            if fresh is None or (fresh.expires or 0.0) <= expires:
                raise ApiError(f"the API server gave {namespace}/{name} a token that is good for no longer")
        except (ApiError, ValueError) as error:
            end = "expires" if now < expires else "expired"
            hint = f"; {self._how_to_grant(claims)}" if getattr(error, "status", None) == 403 else ""
            self._complain(f"cannot renew the token, which {end} {_moment(expires)}: {error}{hint}")
            return self._retries.pause()
        self._retries.reset()
        self._trouble.ends()
        self._asked = fresh  # it worked just now
        try:
            self._kept.keep(token)
        except OSError as error:
            self._complain(f"the renewed token cannot be stored and is lost at the next start: {why(error)}")
        try:
            self._api.reload()
        except KiptailError as error:
            self._complain(f"the renewed token is not used: {error}")
        else:
            log.info("renewed the token of %s/%s; it expires %s", namespace, name, _moment(fresh.expires))
        return LOOK_INTERVAL

    def _complain(self, text: str) -> None:
        if self._trouble.changes(text):
            log.warning("%s", text)

    def _how_to_grant(self, claims: Claims) -> str:
        asking = self._api.claimed()
        if asking.user != claims.subject:
            return f"the kubeconfig asks as {one_line(asking.user)}: let that user {_RIGHT} for it"
        return grant_remedy(asking, *_RIGHT.split())

    def _run(self) -> None:
        while not self._stop.is_set():
            self._stop.wait(self.step())


def _moment(seconds: float | None) -> str:
    return minute(seconds) if seconds is not None else "never"
