"""From kubeconfig files to a session: credential, certificates and connection pools.

For a daemon it is strict: no private key is written to a file, so a full disk is in nobody's way, and what is wrong
with a certificate is said at the start.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import urllib3
from urllib3._collections import HTTPHeaderDict
from urllib3.exceptions import ClosedPoolError, InsecureRequestWarning

from kiptail.credentials.files import CREDENTIAL_BYTES, Stamp, TokenFile, read_file, stamp
from kiptail.credentials.headers import authorization, impersonation
from kiptail.credentials.kubeconfig import Entry, choose, named_files, read_kubeconfigs, usable_server
from kiptail.credentials.plugin import PROVIDERS, Given, plugin_of
from kiptail.credentials.proxy import Proxy, proxy_of
from kiptail.credentials.schema import decoded
from kiptail.credentials.tls import common_name, proxy_context, tls_context, validity
from kiptail.errors import ClusterError
from kiptail.kube.connections import ExchangingPool, breakable
from kiptail.text import one_line

__all__ = ["Credential", "Session", "Tokens", "open_session"]

log = logging.getLogger(__name__)

#: After an exec plugin failed to renew a token, the time until it is run again.
EXEC_PAUSE_S = 30.0
#: A credential is renewed no sooner than after this time, in seconds, also one that has expired when it is given.
RENEW_PAUSE_S = 10.0
#: Connections that are kept: requests are made by a few threads.
_CONNECTIONS = 10


class Tokens(Protocol):
    """Tokens that are renewed by kiptail itself, in place of the one that stands in the kubeconfig."""

    def choose(self, given: str) -> str:
        """The token to use, where the kubeconfig has ``given``."""


@dataclass(frozen=True, slots=True)
class Session:
    """What one reading of the kubeconfigs gave. Replaced as a whole: a request sees all old or all new."""

    #: ``https://host:port``, perhaps with a path, without a slash at the end.
    server: str
    credential: Credential
    #: Names and values of headers that go with each request: whom the API server is to take this for.
    impersonation: tuple[tuple[str, str], ...]
    #: That user, else the CN of the client certificate, if there is one.
    user_name: str | None
    #: From when until when that is good, in seconds since the epoch.
    certificate_life: tuple[float, float] | None
    #: False with insecure-skip-tls-verify.
    verified: bool
    #: Its connections are those of :mod:`kiptail.kube.connections`.
    pool: urllib3.PoolManager
    #: Those of the server, where there is no proxy.
    direct: ExchangingPool | None
    #: The files that all this came from, as they were before they were read.
    stamps: dict[Path, Stamp]

    def close(self) -> None:
        """Close its connections; those in use are closed once they no longer are."""
        self.pool.clear()
        if self.direct is not None:
            self.direct.close()

    def request(
        self, method: str, path: str, *, body: bytes | None, headers: Any, times: urllib3.Timeout, stream: bool
    ) -> Any:
        """The answer of the server to a request for ``path``; its body is not read yet.

        It is a urllib3 response for a ``stream``, else something with as much of one as
        :class:`~kiptail.kube.connections.Answer` has.
        """
        if self.direct is not None and not stream:
            with suppress(ClosedPoolError):  # a session that was replaced just now may end what it has begun
                return self.direct.exchange(method, urlsplit(self.server).path + path, body, headers, times)
        return self.pool.urlopen(
            method,
            self.server + path,
            body=body,
            headers=headers,
            timeout=times,
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
            enforce_content_length=True,
        )


class Credential:
    """The bearer token or password of a kubeconfig's user; none where a client certificate is all."""

    def __init__(
        self,
        value: str | None,
        *,
        token_file: TokenFile | None = None,
        given: Given | None = None,
        ask: Callable[[], Given] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``value`` is the Authorization header, where it does not come from the token file.

        Where a plugin or provider gave it, ``ask`` has another one ``given``. Raises ClusterError.
        """
        self._value, self._token_file, self._ask, self._clock = value, token_file, ask, clock
        self._lock = threading.Lock()
        #: A certificate cannot be renewed alone: its connections are made with it.
        self._whole = given is not None and given.certificate is not None
        self._renew_at = self._due(given)
        if token_file is not None:
            token_file.token()

    def header(self) -> str | None:
        """The ``Authorization`` header. Runs an exec plugin whose token is to be renewed. Raises ClusterError."""
        with self._lock:
            if self._token_file is not None:
                return f"Bearer {self._token_file.token()}"
            if self._ask is not None and not self._whole and time.monotonic() >= self._renew_at:
                self._renew(self._ask)
            return self._value

    def outdated(self) -> bool:
        """It has a certificate that is to be renewed, by reading everything again; says so once in a while."""
        with self._lock:
            if not self._whole or time.monotonic() < self._renew_at:
                return False
            self._renew_at = time.monotonic() + EXEC_PAUSE_S
            return True

    def _renew(self, ask: Callable[[], Given]) -> None:
        try:
            given = ask()
        except ClusterError as error:
            # The old token may have some time left. If it has none, 401 follows.
            log.warning("cannot renew the credential: %s", error)
            self._renew_at = time.monotonic() + EXEC_PAUSE_S
            return
        self._value, self._renew_at = f"Bearer {given.token}" if given.token else None, self._due(given)

    def _due(self, given: Given | None) -> float:
        """By time.monotonic(). Not at once, whatever a plugin says of times that have passed."""
        if given is None or given.renew_at is None:
            return math.inf
        return time.monotonic() + max(RENEW_PAUSE_S, given.renew_at - self._clock())


def open_session(
    paths: Sequence[Path],
    context: str | None,
    server: str | None,
    tokens: Tokens | None = None,
    *,
    stopped: Callable[[], bool] = bool,
    environ: Mapping[str, str] = os.environ,
) -> Session:
    """Read the kubeconfigs and all that they name; run the exec plugin, until ``stopped()``; no request.

    ``environ`` may name a proxy. Raises ClusterError.
    """
    stamps = {path: stamp(path) for path in paths}
    cluster, user = choose(read_kubeconfigs(paths), context)
    url = usable_server(cluster, server)
    cluster.value["server"] = url
    proxy = proxy_of(cluster, url, environ)
    sent = impersonation(user)
    files = named_files(cluster, user)
    token_file = TokenFile(files.pop("tokenFile")) if "tokenFile" in files else None
    if token_file is not None:
        # As in kubectl, it wins over the others.
        for unused in ("tokenFile", "token", *PROVIDERS):
            user.value.pop(unused, None)
    stamps.update((file, stamp(file)) for file in files.values())
    ca = _content(cluster, "certificate-authority", files)
    certificate, key = (_content(user, each, files) for each in ("client-certificate", "client-key"))
    own = tokens is not None and user.value.keys().isdisjoint(PROVIDERS)
    value, given, ask = authorization(user, tokens.choose if own and tokens else str), None, None
    plugin = plugin_of(cluster, user, ca)
    if plugin is not None:
        ask = functools.partial(plugin, stopped)
        given = ask()
        value = f"Bearer {given.token}" if given.token else None
        if given.certificate is not None:
            certificate, key = given.certificate, given.key
    verify = not cluster.value.get("insecure-skip-tls-verify", False)
    tls = tls_context(cluster.where, user.where, verify=verify, ca=ca, certificate=certificate, key=key)
    options = {"ssl_context": tls, "cert_reqs": tls.verify_mode}
    if proxy is not None:
        options["proxy_ssl_context"] = proxy_context(cluster.where, proxy.host, verify=verify, ca=ca)
    if not verify:
        urllib3.disable_warnings(InsecureRequestWarning)  # said once, by KubeApi
    # What it logs, it raises too.
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    pool = _pool(cluster, proxy, options)
    return Session(
        server=url,
        credential=Credential(value, token_file=token_file, given=given, ask=ask),
        impersonation=sent,
        user_name=user.value.get("as") or common_name(certificate or b""),
        certificate_life=validity(certificate or b""),
        verified=verify,
        pool=pool,
        direct=cast(ExchangingPool, pool.connection_from_url(url)) if proxy is None else None,
        stamps=stamps,
    )


def _content(entry: Entry, key: str, files: Mapping[str, Path]) -> bytes | None:
    """The certificate or key that stands in the kubeconfig, or in the file that it names; None without one."""
    if data := entry.value.get(f"{key}-data"):
        return decoded(data)
    return read_file(files[key], f"{entry.where}: {key}", CREDENTIAL_BYTES) if key in files else None


class _ProxyManager(urllib3.ProxyManager):
    """Keeps headers of one name apart, as groups are: urllib3 joins them where the API server is asked without TLS."""

    def _set_proxy_headers(self, url: str, headers: Mapping[str, str] | None = None) -> Any:
        ours, merged = HTTPHeaderDict(headers or {}), HTTPHeaderDict(super()._set_proxy_headers(url))
        for name in ours:
            merged.discard(name)
        merged.extend(ours)
        return merged


def _pool(cluster: Entry, proxy: Proxy | None, options: Mapping[str, Any]) -> urllib3.PoolManager:
    """Connection pools, whose connections are those of :mod:`kiptail.kube.connections`. Raises ClusterError."""
    options = {"maxsize": _CONNECTIONS, **options}
    if name := cluster.value.get("tls-server-name"):
        options["server_hostname"] = name
    if proxy is None:
        pool = urllib3.PoolManager(**options)
    else:
        secret = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else None
        try:
            pool = _ProxyManager(proxy.url, proxy_headers=secret, **options)
        except Exception as error:
            raise ClusterError(f"{proxy.where} {proxy.url} cannot be used: {one_line(str(error))}") from error
    pool.pool_classes_by_scheme = {
        scheme: breakable(pool_class) for scheme, pool_class in pool.pool_classes_by_scheme.items()
    }
    return pool
