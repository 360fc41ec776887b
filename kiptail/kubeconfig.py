"""From a kubeconfig file to a session: credential, certificates and connection pools.

For a daemon it is strict: no private key is written to a file, so a full disk is in nobody's way, and what is wrong
with a certificate is said at the start.
"""

from __future__ import annotations

import base64
import functools
import logging
import math
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import urllib3
import yaml
from urllib3.exceptions import InsecureRequestWarning

from kiptail.errors import ClusterError, one_line
from kiptail.kubecall import breakable
from kiptail.kubecontext import Json, choose, named_files, shown_url, usable_server
from kiptail.kubefiles import CREDENTIAL_BYTES, Stamp, TokenFile, clean_token, read_file, stamp
from kiptail.kubeplugin import PROVIDERS, Given, plugin_of
from kiptail.kubetls import common_name, tls_context, validity

__all__ = ["Credential", "Session", "Tokens", "open_session", "read_kubeconfig"]

log = logging.getLogger(__name__)

#: After an exec plugin failed to renew a token, the time until it is run again.
EXEC_PAUSE_S = 30.0
#: A credential is renewed no sooner than after this time, in seconds, also one that has expired when it is given.
RENEW_PAUSE_S = 10.0
KUBECONFIG_BYTES = 4 << 20
#: Values in a kubeconfig, aliases unfolded; one with a thousand contexts has ten thousand.
LARGEST = 1_000_000
#: Connections that are kept: requests are made by a few threads.
_CONNECTIONS = 10


class Tokens(Protocol):
    """Tokens that are renewed by kiptail itself, in place of the one that stands in the kubeconfig."""

    def choose(self, given: str) -> str:
        """The token to use, where the kubeconfig has ``given``."""


@dataclass(frozen=True, slots=True)
class Session:
    """What one reading of the kubeconfig gave. Replaced as a whole: a request sees all old or all new."""

    #: ``https://host:port``, perhaps with a path, without a slash at the end.
    server: str
    credential: Credential
    #: CN of the client certificate, if there is one.
    user_name: str | None
    #: From when until when that is good, in seconds since the epoch.
    certificate_life: tuple[float, float] | None
    #: False with insecure-skip-tls-verify.
    verified: bool
    #: Its connections are those of :mod:`kiptail.kubecall`.
    pool: urllib3.PoolManager
    #: The files that all this came from, as they were before they were read.
    stamps: dict[Path, Stamp]


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
    path: Path,
    context: str | None,
    server: str | None,
    tokens: Tokens | None = None,
    *,
    stopped: Callable[[], bool] = bool,
) -> Session:
    """Read the kubeconfig and all that it names; run its exec plugin, until ``stopped()``; no request.

    Raises ClusterError.
    """
    stamps = {path: stamp(path)}
    cluster, user = choose(path, read_kubeconfig(path), context)
    cluster["server"] = usable_server(path, cluster, server)
    files = named_files(path, cluster, user)
    token_file = TokenFile(files.pop("tokenFile")) if "tokenFile" in files else None
    if token_file is not None:
        # As in kubectl, it wins over the others.
        for unused in ("tokenFile", "token", *PROVIDERS):
            user.pop(unused, None)
    stamps.update((file, stamp(file)) for file in files.values())
    where = f"the kubeconfig {path}"
    ca = _content(where, cluster, "certificate-authority", files)
    certificate, key = (_content(where, user, each, files) for each in ("client-certificate", "client-key"))
    value, given, ask = _users_word(where, user, tokens), None, None
    plugin = plugin_of(path, cluster, user, ca)
    if plugin is not None:
        ask = functools.partial(plugin, stopped)
        given = ask()
        value = f"Bearer {given.token}" if given.token else None
        if given.certificate is not None:
            certificate, key = given.certificate, given.key
    verify = not cluster.get("insecure-skip-tls-verify")
    tls = tls_context(where, verify=verify, ca=ca, certificate=certificate, key=key)
    if not verify:
        urllib3.disable_warnings(InsecureRequestWarning)  # said once, by KubeApi
    # What it logs, it raises too.
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    return Session(
        server=cluster["server"],
        credential=Credential(value, token_file=token_file, given=given, ask=ask),
        user_name=common_name(certificate or b""),
        certificate_life=validity(certificate or b""),
        verified=verify,
        pool=_pool(where, cluster, tls),
        stamps=stamps,
    )


def read_kubeconfig(path: Path) -> Json:
    """The file's document. Raises ClusterError, without the text at fault: that may be a secret."""
    data = read_file(path, "the kubeconfig", KUBECONFIG_BYTES, hint="; name another with --kubeconfig")
    try:
        document = _document(data)
    except Exception as error:  # noqa: BLE001 - PyYAML's constructors raise anything, as KeyError for "!!bool maybe"
        problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
        where = f": {one_line(problem)} in line {mark.line + 1}" if problem and mark else ""
        raise ClusterError(f"the kubeconfig {path} is empty or not valid YAML{where}") from None
    if document is None:
        raise ClusterError(f"the kubeconfig {path} is empty or not valid YAML")
    if not isinstance(document, dict) or not isinstance(document.get("clusters"), list):
        raise ClusterError(f"{path} is not a kubeconfig: it lists no clusters")
    return document


def _document(data: bytes) -> object:
    """What the YAML says. Raises anything that PyYAML does."""
    loader = yaml.SafeLoader(data)
    try:
        node = loader.get_single_node()
        if node is not None and _unfolded(node, {}) > LARGEST:
            # Merge keys (<<) would be unfolded here, names when they are shown.
            raise yaml.MarkedYAMLError(problem="aliases make it endless", problem_mark=node.start_mark)
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def _unfolded(node: Any, sizes: dict[int, float]) -> float:
    """How many nodes there are where each alias is a copy; infinite where one holds itself.

    ``sizes`` are those of the nodes that were seen, by their id().
    """
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in sizes:
        sizes[id(node)] = math.inf
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        sizes[id(node)] = 1 + sum(_unfolded(part, sizes) for part in parts)
    return sizes[id(node)]


def _content(where: str, mapping: Json, key: str, files: Mapping[str, Path]) -> bytes | None:
    """The certificate or key that stands in the kubeconfig, or in the file that it names; None without one."""
    if data := mapping.get(f"{key}-data"):
        return base64.b64decode(data)
    return read_file(files[key], f"{where}: {key}", CREDENTIAL_BYTES) if key in files else None


def _users_word(where: str, user: Json, tokens: Tokens | None) -> str | None:
    """The Authorization header of the token, or name and password, that stands in the kubeconfig.

    Raises ClusterError.
    """
    given = [user[key] for key in ("token", "username", "password") if user.get(key)]
    if not all(isinstance(value, str) for value in given):
        raise ClusterError(f"{where}: the user's token, username or password is no text")
    if user.get("token"):
        token = user["token"].strip()
        if tokens is not None and user.keys().isdisjoint(PROVIDERS):
            token = tokens.choose(token)
        return "Bearer " + clean_token(token, "the token of the kubeconfig's user")
    if user.get("username") and user.get("password"):
        try:
            return str(urllib3.make_headers(basic_auth=f"{user['username']}:{user['password']}")["authorization"])
        except UnicodeError as error:
            raise ClusterError(f"{where}: the user's name or password has letters that HTTP cannot send") from error
    return None


def _pool(where: str, cluster: Json, tls: ssl.SSLContext) -> urllib3.PoolManager:
    """Connection pools, whose connections are those of :mod:`kiptail.kubecall`. Raises ClusterError."""
    options: Json = {"maxsize": _CONNECTIONS, "ssl_context": tls, "cert_reqs": tls.verify_mode}
    if cluster.get("tls-server-name"):
        options["server_hostname"] = cluster["tls-server-name"]
    proxy = cluster.get("proxy-url")
    try:
        pool = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
    except Exception as error:
        problem = f"{where}: the proxy-url {shown_url(proxy)} cannot be used"
        raise ClusterError(f"{problem}: {one_line(str(error)).replace(str(proxy), shown_url(proxy))}") from error
    pool.pool_classes_by_scheme = {
        scheme: breakable(pool_class) for scheme, pool_class in pool.pool_classes_by_scheme.items()
    }
    return pool
