"""From a kubeconfig file to a session: credential, certificates and connection pools.

For a daemon it is strict: a private key that stands in the kubeconfig does not stay behind in ``/tmp``, and what is
wrong with a certificate is said at the start.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import math
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import urllib3
import yaml
from urllib3.exceptions import InsecureRequestWarning

from kiptail.errors import ClusterError, one_line
from kiptail.kubecall import breakable
from kiptail.kubecontext import Json, choose, named_files, usable_server
from kiptail.kubefiles import Stamp, TokenFile, clean_token, read_file, stamp, why
from kiptail.kubeplugin import PROVIDERS, loaded, loader_messages, plugins_word
from kiptail.kubetls import common_name, tls_context, validity

__all__ = ["Credential", "Session", "Tokens", "open_session", "read_kubeconfig"]

log = logging.getLogger(__name__)

#: After an exec plugin failed to renew a token, the time until it is run again.
EXEC_PAUSE_S = 30.0
KUBECONFIG_BYTES = 4 << 20
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

    def __init__(self, ask: Callable[[], str | None], token_file: TokenFile | None, *, expires: bool) -> None:
        """``ask`` gives scheme and secret of the Authorization header. Raises ClusterError.

        ``expires``: it comes from a plugin or provider, that is to be asked again before it is out of date.
        """
        self._ask = ask
        self._token_file = token_file
        self._lock = threading.Lock()
        self._renew_at = -math.inf if expires else math.inf
        self._value: str | None = None
        if token_file is None:
            self._value = self._renewed()
        else:
            token_file.token()

    def header(self) -> str | None:
        """The ``Authorization`` header. Runs an exec plugin whose token expires. Raises ClusterError."""
        with self._lock:
            if self._token_file is not None:
                return f"Bearer {self._token_file.token()}"
            if time.monotonic() >= self._renew_at:
                self._value = self._renewed()
            return self._value

    def _renewed(self) -> str | None:
        with loader_messages() as complaints:
            try:
                value = self._ask()
            except Exception as error:  # exec plugins and auth providers raise anything
                raise ClusterError(f"cannot renew the credential: {why(error)}") from error
        if complaints:
            # The loader keeps the old token, which has some minutes left. If it has none, 401 follows.
            log.warning("cannot renew the credential: %s", complaints[-1])
            self._renew_at = time.monotonic() + EXEC_PAUSE_S
        if value is None:
            return None
        scheme, _, token = value.partition(" ")
        clean = clean_token(token, "the token of the kubeconfig's user")
        return f"{scheme} {clean}"


def open_session(path: Path, context: str | None, server: str | None, tokens: Tokens | None = None) -> Session:
    """Read the kubeconfig and all that it names; run its exec plugin; no request. Raises ClusterError."""
    stamps = {path: stamp(path)}
    cluster, user = choose(path, read_kubeconfig(path), context)
    cluster["server"] = usable_server(path, cluster, server)
    files = named_files(path, cluster, user)
    token_file = TokenFile(files.pop("tokenFile")) if "tokenFile" in files else None
    if token_file is not None:
        # As in kubectl, it wins over the others.
        for key in ("tokenFile", "token", *PROVIDERS):
            user.pop(key, None)
    elif tokens is not None and isinstance(user.get("token"), str) and user.keys().isdisjoint(PROVIDERS):
        user["token"] = tokens.choose(user["token"].strip())
    stamps.update((file, stamp(file)) for file in files.values())
    where, expires = f"the kubeconfig {path}", not user.keys().isdisjoint(PROVIDERS)
    verify = not cluster.get("insecure-skip-tls-verify")
    with contextlib.ExitStack() as stack:
        ca_file = _file(stack, cluster, "certificate-authority", files)
        if expires:
            configuration = stack.enter_context(loaded(path, cluster, user))
            cert_file, key_file = configuration.cert_file, configuration.key_file
            ask = plugins_word(configuration)
        else:
            cert_file, key_file = (_file(stack, user, key, files) for key in ("client-certificate", "client-key"))
            ask = _users_word(where, user)
        tls = tls_context(where, verify=verify, ca_file=ca_file, cert_file=cert_file, key_file=key_file)
        certificate = Path(cert_file).read_bytes() if cert_file else b""
    if not verify:
        urllib3.disable_warnings(InsecureRequestWarning)  # said once, by KubeApi
    # What it logs, it raises too.
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    return Session(
        server=cluster["server"],
        credential=Credential(ask, token_file, expires=expires),
        user_name=common_name(certificate),
        certificate_life=validity(certificate),
        verified=verify,
        pool=_pool(where, cluster, tls),
        stamps=stamps,
    )


def read_kubeconfig(path: Path) -> Json:
    """The file's document. Raises ClusterError, without the text at fault: that may be a secret."""
    data = read_file(path, "the kubeconfig", KUBECONFIG_BYTES, hint="; name another with --kubeconfig")
    try:
        document = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
        where = f": {one_line(problem)} in line {mark.line + 1}" if problem and mark else ""
        raise ClusterError(f"the kubeconfig {path} is empty or not valid YAML{where}") from None
    if document is None:
        raise ClusterError(f"the kubeconfig {path} is empty or not valid YAML")
    if not isinstance(document, dict) or not isinstance(document.get("clusters"), list):
        raise ClusterError(f"{path} is not a kubeconfig: it lists no clusters")
    return document


def _file(stack: contextlib.ExitStack, mapping: Json, key: str, files: Mapping[str, Path]) -> str | None:
    """The path of a certificate or key; one that stands in the kubeconfig is a file, its owner's, for a moment."""
    data = mapping.get(f"{key}-data")
    if not data:
        return str(files[key]) if key in files else None
    file = stack.enter_context(tempfile.NamedTemporaryFile())  # noqa: SIM115 - the stack closes it
    file.write(base64.b64decode(data))
    file.flush()
    return file.name


def _users_word(where: str, user: Json) -> Callable[[], str | None]:
    """The token, or name and password, that stands in the kubeconfig. Raises ClusterError."""
    given = [user[key] for key in ("token", "username", "password") if user.get(key)]
    if not all(isinstance(value, str) for value in given):
        raise ClusterError(f"{where}: the user's token, username or password is no text")
    word = None
    if user.get("token"):
        word = f"Bearer {user['token'].strip()}"
    elif user.get("username") and user.get("password"):
        word = urllib3.make_headers(basic_auth=f"{user['username']}:{user['password']}")["authorization"]
    return lambda: word


def _pool(where: str, cluster: Json, tls: ssl.SSLContext) -> urllib3.PoolManager:
    """Connection pools, whose connections are those of :mod:`kiptail.kubecall`. Raises ClusterError."""
    options: Json = {"maxsize": _CONNECTIONS, "ssl_context": tls, "cert_reqs": tls.verify_mode}
    if cluster.get("tls-server-name"):
        options["server_hostname"] = cluster["tls-server-name"]
    proxy = cluster.get("proxy-url")
    try:
        pool = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
    except Exception as error:
        raise ClusterError(
            f"{where}: the proxy-url {one_line(str(proxy), 100)} cannot be used: {why(error)}"
        ) from error
    pool.pool_classes_by_scheme = {
        scheme: breakable(pool_class) for scheme, pool_class in pool.pool_classes_by_scheme.items()
    }
    return pool
