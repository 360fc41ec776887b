"""One client of an API server: from its kubeconfig to its end, and what is known of it without a request."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, Self

from kiptail.credentials.identity import Identity
from kiptail.credentials.tokens import Claims, claims_of
from kiptail.errors import ClusterError
from kiptail.kube.current_session import CurrentSession
from kiptail.kube.session import Session, Tokens, open_session
from kiptail.kube.transport import Observe, Transport

__all__ = ["Client", "OwnTokens"]

log = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 10.0
#: How often the files that credentials came from are looked at (a few stat calls).
FILES_CHECK_S = 3.0


class OwnTokens(Tokens, Protocol):
    """Where renewed tokens are kept."""

    def refused(self, token: str) -> None:
        """The API server did not accept this one."""


class Client:
    """A transport with the credential that it uses; :class:`~kiptail.kube.api.KubeApi` makes the requests."""

    def __init__(self, transport: Transport) -> None:
        """Use :meth:`from_kubeconfig`."""
        self._transport = transport
        if not transport.session.verified:
            log.warning("insecure-skip-tls-verify: anybody between here and %s can read the token", self.server)

    @classmethod
    def from_kubeconfig(
        cls,
        *paths: Path,
        context: str | None = None,
        server: str | None = None,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
        files_check_s: float = FILES_CHECK_S,
        observe: Observe | None = None,
        tokens: OwnTokens | None = None,
        stopped: Callable[[], bool] = bool,
    ) -> Self:
        """From a kubeconfig, or from several that are merged; no request is made, but an exec plugin is run.

        ``context`` instead of the current one, ``server`` (a URL) instead of the cluster's. A request may
        take ``request_timeout_s`` in all. Files are looked at for changes every ``files_check_s``.
        ``tokens`` may have a newer token than the kubeconfig. A plugin is broken off once ``stopped()``, and by
        :meth:`close`.
        Raises ClusterError, one line, that names the file and what is wrong with it.
        """
        sessions = CurrentSession(
            lambda closed: open_session(paths, context, server, tokens, stopped=lambda: closed() or stopped()),
            files_check_s=files_check_s,
            on_unauthorized=None if tokens is None else lambda session: tokens.refused(_token(session)),
        )
        return cls(Transport(sessions, request_timeout_s=request_timeout_s, observe=observe))

    @property
    def server(self) -> str:
        """The URL of the API server, without a slash at the end."""
        return self._transport.session.server

    def time_us(self) -> int | None:
        """What the API server's clock shows now, µs since the epoch, to a second or so; None while nothing tells."""
        ahead_s = self._transport.clock.ahead_s
        # A Date is cut to whole seconds.
        return None if ahead_s is None else round((ahead_s + time.monotonic() + 0.5) * 1e6)

    @property
    def user_name(self) -> str | None:
        """The user that is impersonated; else, where the credential is a client certificate, its CN."""
        return self._transport.session.user_name

    @property
    def verified(self) -> bool:
        """Whether the server's certificate is looked at."""
        return self._transport.session.verified

    @property
    def certificate_life(self) -> tuple[float, float] | None:
        """From when until when the client certificate is good, in seconds since the epoch; None without one."""
        return self._transport.session.certificate_life

    def claims(self) -> Claims | None:
        """What the token says of itself; None where there is none. May run an exec plugin: raises ClusterError."""
        return claims_of(_token(self._transport.session))

    @property
    def node_name(self) -> str | None:
        """NAME, where the credential is a kubelet's client certificate, for ``system:node:NAME``."""
        return Identity(self.user_name or "").node or None

    def claimed(self) -> Identity:
        """Whom the kubeconfig says that this is, without a request: impersonated, by a certificate, or by a token."""
        claims = None
        with contextlib.suppress(ClusterError):
            claims = self.claims()
        return Identity(self.user_name or (claims.subject if claims is not None else ""))

    def reload(self) -> None:
        """Read the kubeconfig, token and certificates again and drop idle connections.

        Raises ClusterError; what was in use stays in use then.
        """
        self._transport.reload()

    def close(self) -> None:
        """Break off all requests and watches, whatever thread they are in; every later one fails."""
        self._transport.close()


def _token(session: Session) -> str:
    """The bearer token in use; "" where it is something else."""
    scheme, _, token = (session.credential.header() or "").partition(" ")
    return token if scheme == "Bearer" else ""
