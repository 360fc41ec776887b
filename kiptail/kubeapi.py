"""The API server: credentials from a kubeconfig, list, watch, create, patch, and what went wrong.

The only module that imports ``kubernetes``, and of it only what loads a kubeconfig and configures a pool of
connections: that is the same from 22.6 (urllib3 1.26) to 37 (urllib3 2), and typed models cost 20 MB more.

In this order: errors, credentials (:class:`_Session`), requests that can be broken off (:class:`_Call`,
:class:`_Transport`), and the API (:class:`KubeApi`, :class:`WatchStream`).

Three things are stricter here than in the Python client, for a daemon needs them. A request has a deadline
for the whole of it, name look-up, handshake and a dripping answer included, and :meth:`KubeApi.close` or
:meth:`WatchStream.close` break it off from another thread. Credentials are followed: a token file is read
again when it changes, so are certificates and the kubeconfig, and everything after a 401. And a private key
that stands in the kubeconfig does not stay behind in ``/tmp``.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import copy
import functools
import http.client
import io
import json
import logging
import math
import os
import re
import shutil
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode, urlsplit

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InsecureRequestWarning,
    NewConnectionError,
    ProtocolError,
)
from urllib3.exceptions import TimeoutError as HTTPTimeoutError
from urllib3.util.ssl_ import create_urllib3_context
from urllib3.util.ssl_match_hostname import CertificateError

from kiptail import __version__
from kiptail.errors import ApiError, ClusterError, one_line

__all__ = ["KubeApi", "Observe", "WatchStream"]

log = logging.getLogger(__name__)

#: ``observe(verb, code, seconds)`` once an exchange: list, watch, create, patch or review; the HTTP status or
#: ``error``; the time to the answer's headers.
Observe: TypeAlias = Callable[[str, str, float], None]
Json: TypeAlias = dict[str, Any]

REQUEST_TIMEOUT_S = 10.0
#: Of a request's time, what opening the connection to one address may take: leaves time for a second address.
CONNECT_TIMEOUT_S = 5.0
#: How long a watch may go on beyond the time it asked the server for.
WATCH_SLACK_S = 30.0
#: A watch that says nothing for so long is taken for dead. Bookmarks come every 45 to 75 s.
WATCH_SILENCE_S = 150.0
#: TCP keepalive, in seconds: a dead link is noticed after about 45 s, also by a watch.
KEEPALIVE = {socket.TCP_KEEPIDLE: 15, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 3}
#: An exec plugin that takes longer is killed.
EXEC_TIMEOUT_S = 30
#: After an exec plugin failed to renew a token, the time until it is run again.
EXEC_PAUSE_S = 30.0
#: How often the files that credentials came from are looked at (a few stat calls).
FILES_CHECK_S = 3.0
#: A token file is read again after this time even if it looks the same.
TOKEN_READ_S = 60.0

KUBECONFIG_BYTES = 4 << 20
ANSWER_BYTES = 1 << 20
LIST_BYTES = 64 << 20
WATCH_LINE_BYTES = 8 << 20
READ_BYTES = 1 << 16

_NODE_USER = "system:node:"
#: Keys of a kubeconfig's user whose tokens expire, and are renewed by the loader.
_PROVIDERS = ("exec", "auth-provider")
_STRATEGIC_MERGE = "application/strategic-merge-patch+json"
_PODS = "/api/v1/pods"
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

#: What urllib3, ssl and http.client raise, and ValueError for a connection closed under their feet.
_TRANSPORT_ERRORS = (HTTPError, OSError, http.client.HTTPException, ValueError)


# -- what went wrong -----------------------------------------------------------------------------------------


def _refused(what: str, status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """The error for an answer that is no success: a metav1.Status, or a proxy's text or page."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        document = {"message": re.sub(r"<[^>]*>", " ", body[:4096].decode(errors="replace"))}
    details = document.get("details")
    details = details if isinstance(details, dict) else {}
    causes = details.get("causes")
    told = [cause.get("reason") for cause in causes if isinstance(cause, dict)] if isinstance(causes, list) else []
    reason = document.get("reason")
    reason = one_line(reason) if isinstance(reason, str) else ""
    # The header may also be a date; API servers send seconds.
    header = headers.get("Retry-After", "").strip()
    seconds = int(header) if re.fullmatch(r"[0-9]{1,9}", header) else details.get("retryAfterSeconds")
    text = document.get("message") or reason or http.client.responses.get(status, "")
    return ApiError(
        f"{what}: the API server answered {status}: {text}",
        status=status,
        reason=reason,
        causes=tuple(one_line(cause) for cause in told if isinstance(cause, str)),
        retry_after=float(seconds) if type(seconds) is int and seconds > 0 else None,
    )


def _bad_answer(what: str, why: str) -> ApiError:
    """An answer that cannot be understood, as a gateway's 502: the next one may be better."""
    return ApiError(f"{what}: the API server's answer {why}", status=502, reason="BadResponse")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """``error`` and the errors within it: urllib3 wraps in arguments and ``reason`` as well as in causes."""
    todo, seen = [error], set[int]()
    while todo and len(seen) < 16:
        link = todo.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        inner = (getattr(link, "reason", None), *link.args, link.__cause__, link.__context__)
        todo += [other for other in inner if isinstance(other, BaseException)]


def _distrust(error: ssl.SSLCertVerificationError | CertificateError) -> str:
    """Why the server's certificate was not accepted."""
    code = getattr(error, "verify_code", None)
    if code == 10:
        return "its certificate has expired"
    if code == 9:
        return "its certificate is not valid yet (is this host's clock right?)"
    if code in (18, 19, 20, 21):
        return "its certificate is not signed by the certificate authority in the kubeconfig"
    if code in (None, 62, 64):
        detail = getattr(error, "verify_message", "") or str(error)
        return f"its certificate is for another name: {detail}"
    return f"its certificate is not accepted: {getattr(error, 'verify_message', '') or error}"


def _unreachable(what: str, host: str, error: Exception | None, call: _Call) -> ApiError:
    """The error for a request that got no answer, or not the whole of one."""
    at = f"{what}: {host}"
    if call.broken == _CLOSED:
        return ApiError(f"{what}: broken off, kiptail is closing the connection")
    if call.broken == _LATE:
        return ApiError(f"{at}: no complete answer within {call.seconds:g} s")
    for link in _chain(error) if error else ():
        if isinstance(link, (ssl.SSLCertVerificationError, CertificateError)):
            return ApiError(f"{at} is not trusted: {_distrust(link)}", untrusted=True)
        if isinstance(link, ssl.SSLError):
            why = link.reason or link.__class__.__name__
            hint = " (does it speak TLS?)" if why == "WRONG_VERSION_NUMBER" else ""
            return ApiError(f"{at}: TLS failed: {why}{hint}")
        # A refused connection and an unknown name are timeouts too, in urllib3's eyes.
        if isinstance(link, (HTTPTimeoutError, TimeoutError)) and not isinstance(link, NewConnectionError):
            missing = "connection" if isinstance(link, ConnectTimeoutError) else "answer"
            return ApiError(f"{at}: no {missing} in time")
        if isinstance(link, http.client.RemoteDisconnected):
            return ApiError(f"{at}: the connection was closed without an answer")
        if isinstance(link, OSError) and link.strerror:
            return ApiError(f"{at}: {link.strerror}")
    if isinstance(error, ProtocolError):
        return ApiError(f"{at}: the answer was cut off or is no HTTP")
    return ApiError(f"{at}: {error}")


# -- credentials ---------------------------------------------------------------------------------------------

_Stamp: TypeAlias = tuple[int, int, int] | None


def _stamp(path: Path) -> _Stamp:
    """What changes when a file is rewritten, or when a symlink on the way to it is moved."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


@dataclass(frozen=True, slots=True)
class _Session:
    """What one reading of the kubeconfig gave. Replaced as a whole: a request sees all old or all new."""

    #: ``https://host:port``, perhaps with a path, without a slash at the end.
    server: str
    credential: _Credential
    #: CN of the client certificate, if there is one.
    user_name: str | None
    #: False with insecure-skip-tls-verify.
    verified: bool
    pool: urllib3.PoolManager
    #: The files that all this came from, as they were before they were read.
    stamps: dict[Path, _Stamp]


class _Credential:
    """The bearer token or password of a kubeconfig's user; none where a client certificate is all."""

    def __init__(self, configuration: Any, token_file: _TokenFile | None, *, expires: bool) -> None:
        """``configuration`` is a loaded kubernetes.client.Configuration. Raises ClusterError.

        ``expires``: it comes from a plugin or provider, that is to be asked again before it is out of date.
        """
        self._configuration = configuration
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
        with _loader_messages() as complaints:
            try:
                value = self._configuration.auth_settings().get("BearerToken", {}).get("value")
            except Exception as error:  # exec plugins and auth providers raise anything
                raise ClusterError(f"cannot renew the credential: {_why(error)}") from error
        if complaints:
            # The loader keeps the old token, which has some minutes left. If it has none, 401 follows.
            log.warning("cannot renew the credential: %s", complaints[-1])
            self._renew_at = time.monotonic() + EXEC_PAUSE_S
        if value is None:
            return None
        scheme, _, token = str(value).partition(" ")
        clean = _clean_token(token, "the token of the kubeconfig's user")
        return f"{scheme} {clean}"


def _clean_token(text: str, where: str) -> str:
    """``text`` stripped. http.client refuses a header with a newline, with a message that shows the token."""
    token = text.strip()
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise ClusterError(f"{where} is empty or holds blanks or control characters")
    return token


class _TokenFile:
    """A bearer token in a file that somebody else renews; the loader reads it once, newline and all."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at = 0.0
        self._stamp: _Stamp = None
        self._token = ""

    def token(self) -> str:
        """The token; the last one while the file cannot be read. Raises ClusterError if there is none."""
        stamp = _stamp(self._path)
        if self._token and stamp == self._stamp and time.monotonic() < self._read_at + TOKEN_READ_S:
            return self._token
        try:
            text = _read_file(self._path, "the token file", ANSWER_BYTES).decode(errors="replace")
            self._token = _clean_token(text, f"the token file {self._path}")
        except ClusterError:
            if not self._token:
                raise
        self._stamp, self._read_at = stamp, time.monotonic()
        return self._token


def _read_file(path: Path, what: str, limit: int, *, hint: str = "") -> bytes:
    """The file's bytes. Raises ClusterError, in which ``what`` names the file's role."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError as error:
        raise ClusterError(f"{what} {path} does not exist{hint}") from error
    except PermissionError as error:
        raise ClusterError(f"{what} {path} may not be read by this user (uid {os.geteuid()})") from error
    except (OSError, ValueError) as error:
        raise ClusterError(f"{what} {path} cannot be read: {_why(error)}") from error
    if len(data) > limit:
        raise ClusterError(f"{what} {path} is larger than {limit >> 20} MiB")
    return data


def _why(error: Exception) -> str:
    """The error's text without its errno and path, on one line."""
    return one_line(getattr(error, "strerror", None) or str(error) or error.__class__.__name__)


def _read_kubeconfig(path: Path) -> Json:
    """The file's document. Raises ClusterError, without the text at fault: that may be a secret."""
    data = _read_file(path, "the kubeconfig", KUBECONFIG_BYTES, hint="; name another with --kubeconfig")
    from kubernetes.config.kube_config import KubeConfigMerger  # noqa: PLC0415 - as in _load()

    try:
        document = KubeConfigMerger(io.BytesIO(data)).config
    except Exception as error:  # noqa: BLE001 - YAML's, ConfigException, RecursionError
        problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
        where = f": {one_line(problem)} in line {mark.line + 1}" if problem and mark else ""
        raise ClusterError(f"the kubeconfig {path} is empty or not valid YAML{where}") from None
    if not isinstance(document, dict) or not isinstance(document.get("clusters"), list):
        raise ClusterError(f"{path} is not a kubeconfig: it lists no clusters")
    return document


def _entry(document: Json, section: str, key: str, name: object) -> Json | None:
    """The ``key`` mapping of the entry called ``name`` in a section such as ``clusters``."""
    entries = document.get(section)
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and entry.get("name") == name:
            value = entry.get(key)
            return copy.deepcopy(value) if isinstance(value, dict) else {}
    return None


def _choose(path: Path, document: Json, wanted: str | None) -> tuple[Json, Json]:
    """The ``cluster`` and ``user`` mappings of a context. Raises ClusterError."""
    name = wanted or document.get("current-context")
    contexts = document.get("contexts")
    entries = contexts if isinstance(contexts, list) else []
    known = [str(entry["name"]) for entry in entries if isinstance(entry, dict) and "name" in entry]
    hint = f"it has {one_line(', '.join(known), 100)}" if known else "it has none"
    if not name:
        raise ClusterError(f"the kubeconfig {path} has no current-context; name one with --context ({hint})")
    context = _entry(document, "contexts", "context", name)
    if context is None:
        raise ClusterError(f"the kubeconfig {path} has no context {one_line(repr(name), 100)} ({hint})")
    cluster = _entry(document, "clusters", "cluster", context.get("cluster"))
    if cluster is None:
        raise ClusterError(f"the kubeconfig {path} has no cluster {one_line(repr(context.get('cluster')), 100)}")
    user = _entry(document, "users", "user", context["user"]) if context.get("user") else {}
    if user is None:
        raise ClusterError(f"the kubeconfig {path} has no user {one_line(repr(context['user']), 100)}")
    return cluster, user


def _named_files(path: Path, cluster: Json, user: Json) -> dict[str, Path]:
    """The files that the kubeconfig names and that will be used, by their key. Raises ClusterError.

    Inline data that is there, and not just an empty string, wins over a file; it is taken out if it is not.
    """
    files = {}
    for mapping, key in (
        (cluster, "certificate-authority"),
        (user, "client-certificate"),
        (user, "client-key"),
        (user, "tokenFile"),
    ):
        data = mapping.get(f"{key}-data") or mapping.pop(f"{key}-data", None)
        name = mapping.get(key)
        if data:
            try:
                base64.b64decode("".join(data.split()), validate=True)
            except (ValueError, AttributeError) as error:
                raise ClusterError(f"the kubeconfig {path}: {key}-data is not base64") from error
        elif name:
            if not isinstance(name, str):
                raise ClusterError(f"the kubeconfig {path}: {key} is not a path")
            files[key] = path.parent / name
            _read_file(files[key], f"the kubeconfig {path}: {key}", ANSWER_BYTES)
    return files


def _usable_server(path: Path, cluster: Json, server: str | None) -> str:
    """The server's URL. Raises ClusterError."""
    url = server or cluster.get("server")
    where = "--server" if server else f"the kubeconfig {path}: the cluster's server"
    if not url:
        raise ClusterError(f"the kubeconfig {path}: the cluster has no server; give one with --server")
    try:
        parts = urlsplit(str(url))
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or "@" in parts.netloc:
        raise ClusterError(f"{where} is not a URL such as https://10.0.0.1:6443: {one_line(str(url), 100)}")
    return str(url).rstrip("/")


def _limit_exec_plugin(user: Json) -> None:
    """Run an exec plugin under timeout(1): the loader would wait for ever for one that hangs."""
    plugin, timeout = user.get("exec"), shutil.which("timeout")
    # On a terminal the loader lets the plugin ask questions, which takes time and the terminal.
    if not isinstance(plugin, dict) or not isinstance(plugin.get("command"), str) or not timeout:
        return
    if sys.stdout is not None and sys.stdout.isatty():
        return
    plugin["args"] = ["-k", "5", str(EXEC_TIMEOUT_S), plugin["command"], *(plugin.get("args") or [])]
    plugin["command"] = timeout


@contextlib.contextmanager
def _loader_messages() -> Iterator[list[str]]:
    """What the loader logs in this thread, its only way to tell that an exec plugin failed."""
    caught: list[str] = []
    thread = threading.get_ident()

    def catch(record: logging.LogRecord) -> bool:
        if record.thread != thread or not record.pathname.endswith("kube_config.py"):
            return True
        text = one_line(record.getMessage())
        late = text.startswith("exec: process returned 124")
        caught.append(f"the exec plugin took longer than {EXEC_TIMEOUT_S} s" if late else text)
        return False

    root = logging.getLogger()
    # logging.error(), which the loader calls, installs a handler that writes to stderr when there is none.
    handler = logging.NullHandler()
    root.addHandler(handler)
    root.addFilter(catch)
    try:
        yield caught
    finally:
        root.removeFilter(catch)
        root.removeHandler(handler)


def _open_session(path: Path, context: str | None, server: str | None) -> _Session:
    """Read the kubeconfig and all that it names; run its exec plugin; no request. Raises ClusterError."""
    stamps = {path: _stamp(path)}
    cluster, user = _choose(path, _read_kubeconfig(path), context)
    cluster["server"] = _usable_server(path, cluster, server)
    files = _named_files(path, cluster, user)
    token_file = _TokenFile(files.pop("tokenFile")) if "tokenFile" in files else None
    if token_file is not None:
        # As in kubectl, it wins over the others.
        for key in ("tokenFile", "token", *_PROVIDERS):
            user.pop(key, None)
    stamps.update((file, _stamp(file)) for file in files.values())
    try:
        configuration, pool, user_name = _load(path, cluster, user)
    except ClusterError:
        raise
    except Exception as error:  # the loader checks no types, and plugins and providers raise anything
        raise ClusterError(f"the kubeconfig {path} cannot be used: {_why(error)}") from error
    return _Session(
        server=cluster["server"],
        credential=_Credential(configuration, token_file, expires=not user.keys().isdisjoint(_PROVIDERS)),
        user_name=user_name,
        verified=bool(configuration.verify_ssl),
        pool=pool,
        stamps=stamps,
    )


def _load(path: Path, cluster: Json, user: Json) -> tuple[Any, urllib3.PoolManager, str | None]:
    """What ``kubernetes`` makes of the mappings: Configuration, connection pools, the certificate's CN."""
    # Here, for it takes 0.2 s and 20 to 30 MB that a dry run with --pods does without.
    from kubernetes.client import ApiClient, Configuration  # noqa: PLC0415
    from kubernetes.config import kube_config  # noqa: PLC0415

    document = {
        "current-context": "kiptail",
        "contexts": [{"name": "kiptail", "context": {"cluster": "kiptail", "user": "kiptail"}}],
        "clusters": [{"name": "kiptail", "cluster": cluster}],
        "users": [{"name": "kiptail", "user": user}],
    }
    _limit_exec_plugin(user)
    # Not load_kube_config(): it takes a colon in a path for a separator.
    loader = kube_config.KubeConfigLoader(
        config_dict=document, active_context="kiptail", config_base_path=str(path.parent)
    )
    configuration = Configuration()
    try:
        with _loader_messages() as complaints:
            loader.load_and_set(configuration)
        if "exec" in user and not configuration.api_key and not configuration.cert_file:
            why = complaints[-1] if complaints else "it gave neither a token nor a certificate"
            raise ClusterError(f"the kubeconfig {path}: the exec plugin failed: {why}")
        tls = _tls_context(path, configuration)
        certificate = Path(configuration.cert_file).read_bytes() if configuration.cert_file else b""
    finally:
        # The loader writes inline certificates and keys to files that stay while the process runs. They are
        # loaded now. (temp_file_path would not do: 22.6 looks for the removed files at the next reading.)
        kube_config._cleanup_temp_files()
        atexit.unregister(kube_config._cleanup_temp_files)  # or there would be one more after each reading
    # 22.6 does not know these two.
    if cluster.get("proxy-url"):
        configuration.proxy = cluster["proxy-url"]
    pool: urllib3.PoolManager = ApiClient(configuration).rest_client.pool_manager
    for key in ("ca_certs", "ca_cert_data", "cert_file", "key_file"):
        pool.connection_pool_kw.pop(key, None)
    pool.connection_pool_kw["ssl_context"] = tls
    if cluster.get("tls-server-name"):
        pool.connection_pool_kw["server_hostname"] = cluster["tls-server-name"]
    pool.pool_classes_by_scheme = {
        scheme: _breakable(pool_class) for scheme, pool_class in pool.pool_classes_by_scheme.items()
    }
    if not configuration.verify_ssl:
        urllib3.disable_warnings(InsecureRequestWarning)  # said once, by KubeApi
    # What it logs, it raises too. Configuration() sets the level, in 22.6.
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    return configuration, pool, _common_name(certificate)


def _tls_context(path: Path, configuration: Any) -> ssl.SSLContext:
    """One context for all connections: certificates are read once, and wrong ones are found at start."""
    verify = ssl.CERT_REQUIRED if configuration.verify_ssl else ssl.CERT_NONE
    context = create_urllib3_context(cert_reqs=verify)
    key = "certificate-authority"
    try:
        if configuration.ssl_ca_cert:
            context.load_verify_locations(cafile=configuration.ssl_ca_cert)
        else:
            context.load_default_certs()
        key = "client certificate and key"
        if configuration.cert_file:
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(configuration.cert_file, configuration.key_file, password=_no_password)
    except ssl.SSLError as error:
        why = error.reason or str(error)
        hint = {
            "KEY_VALUES_MISMATCH": "do not belong together",
            "NO_CERTIFICATE_OR_CRL_FOUND": "holds no PEM certificate",
        }.get(why, f"cannot be used: {one_line(why)}")
        raise ClusterError(f"the kubeconfig {path}: the {key} {hint}") from error
    except (OSError, ValueError) as error:
        raise ClusterError(f"the kubeconfig {path}: the {key} cannot be used: {_why(error)}") from error
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def _der(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The (tag, content) of the DER elements in a row that ``data`` is. Raises ValueError, IndexError."""
    at = 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        if at + length > len(data):
            raise ValueError("truncated DER")
        yield tag, data[at : at + length]
        at += length


def _common_name(certificate: bytes) -> str | None:
    """The subject's commonName in the first certificate of a PEM file (or of a DER one)."""
    pem = re.search(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", certificate, re.DOTALL)
    try:
        der = base64.b64decode(pem[1]) if pem else certificate
        tbs = next(_der(next(_der(der))[1]))[1]
        # After an optional version, tagged [0]: serial, algorithm, issuer, validity and then the subject.
        fields = [content for tag, content in _der(tbs) if tag != 0xA0]
        for _, names in _der(fields[4]):
            for _, name in _der(names):
                (_, oid), (_, value) = _der(name)
                if oid == b"\x55\x04\x03":
                    return value.decode()
    except (ValueError, IndexError, StopIteration):
        pass
    return None


# -- a request that can be broken off ------------------------------------------------------------------------

_LATE, _CLOSED = "late", "closed"


class _Call:
    """One request in flight: its deadline, and a hold on its connection by which any thread can break it off.

    The hold is a second descriptor of the socket: shutting that down wakes whoever is blocked in a read or a
    handshake, whatever urllib3 and ``ssl`` have wrapped around the first one.
    """

    def __init__(self) -> None:
        #: How long it may take at present.
        self.seconds = 0.0
        #: ``late``, ``closed``, or empty.
        self.broken = ""
        self._changed = threading.Condition()
        self._finished = False
        self._line: socket.socket | None = None
        self._timer: threading.Timer | None = None

    def allow(self, seconds: float | None) -> None:
        """From now on it may take ``seconds`` (None: as long as it likes)."""
        with self._changed:
            timer, self._timer = self._timer, None
            if seconds is not None and not self._finished:
                self.seconds = seconds
                self._timer = threading.Timer(seconds, self.break_off, (_LATE,))
                self._timer.name = "kiptail-deadline"
                self._timer.daemon = True
                self._timer.start()
        if timer is not None:
            timer.cancel()
            timer.join()

    def break_off(self, why: str) -> None:
        """End it now, from any thread."""
        with self._changed:
            if self._finished or self.broken:
                return
            self.broken = why
            self._shut_down()
            self._changed.notify_all()

    def finish(self) -> None:
        """It is over: its connection may serve another one from now on."""
        self.allow(None)
        with self._changed:
            self._finished = True
            if self._line is not None:
                self._line.close()
                self._line = None

    def hold(self, line: socket.socket) -> None:
        """``line`` (or its TLS wrapping) is the connection."""
        with self._changed:
            if self._line is not None:
                self._line.close()
                self._line = None
            if line.fileno() >= 0 and not self._finished:
                self._line = socket.socket(fileno=os.dup(line.fileno()))
            if self.broken:
                self._shut_down()

    def _shut_down(self) -> None:
        if self._line is not None:
            with contextlib.suppress(OSError):
                self._line.shutdown(socket.SHUT_RDWR)

    def connect(self, opener: Callable[[], socket.socket]) -> socket.socket:
        """``opener()`` in a thread of its own: a name look-up can take a minute and can only be abandoned."""
        outcome: list[socket.socket | Exception] = []

        def run() -> None:
            result: socket.socket | Exception
            try:
                result = opener()
            except Exception as error:  # noqa: BLE001 - raised in the thread that waits
                result = error
            with self._changed:
                if not self.broken and not self._finished:
                    outcome.append(result)
                    self._changed.notify_all()
                elif not isinstance(result, Exception):
                    result.close()

        threading.Thread(target=run, name="kiptail-connect", daemon=True).start()
        with self._changed:
            self._changed.wait_for(lambda: outcome or self.broken)
            result = outcome.pop() if outcome else ConnectTimeoutError(None, "broken off")
        if isinstance(result, Exception):
            raise result
        return result


class _CallOfThread(threading.local):
    """The call that a thread is making: urllib3 has no way to hand it to the connection."""

    call: _Call | None = None


_current = _CallOfThread()


class _BreakableConnection(HTTPConnection):
    """Mixed into urllib3's connection classes: hands its socket to the thread's call at once."""

    def _new_conn(self) -> socket.socket:
        call, opener = _current.call, super()._new_conn
        if call is None:
            return opener()
        line = call.connect(opener)
        call.hold(line)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE.items():
            line.setsockopt(socket.IPPROTO_TCP, option, value)
        return line

    def request(self, *args: Any, **kwargs: Any) -> None:
        if _current.call is not None and self.sock is not None:
            _current.call.hold(self.sock)
        super().request(*args, **kwargs)


@functools.cache
def _breakable(pool_class: Any) -> Any:
    """A connection pool class (HTTP, HTTPS or SOCKS) whose connections can be broken off."""
    connection_class = type("_Connection", (_BreakableConnection, pool_class.ConnectionCls), {})
    return type(pool_class.__name__, (pool_class,), {"ConnectionCls": connection_class})


@dataclass(frozen=True, slots=True)
class _Request:
    """What is to be sent; the credential is added when it is."""

    #: For an error's text: "cannot list pods".
    what: str
    #: As in RBAC, for the metrics.
    verb: str
    method: str
    #: With its query.
    path: str
    body: bytes | None = None
    content_type: str = "application/json"


def _segment(text: str) -> str:
    """``text`` as one segment of a path. Raises ValueError for what would change the path's meaning."""
    if text in ("", ".", ".."):
        raise ValueError(f"not a name: {text!r}")
    return quote(text, safe="")


def _encode(body: Json) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


class _Transport:
    """Sends requests with the credentials of the day, from any number of threads."""

    def __init__(
        self,
        opener: Callable[[], _Session],
        *,
        request_timeout_s: float,
        files_check_s: float,
        observe: Observe | None,
    ) -> None:
        """``opener`` reads the credentials. Raises ClusterError."""
        self._opener = opener
        self._request_timeout_s = request_timeout_s
        self._files_check_s = files_check_s
        self._observe = observe
        #: Held while credentials are read, which may run a plugin: not for anything that close() needs.
        self._load_lock = threading.Lock()
        self._calls_lock = threading.Lock()
        self._calls: set[_Call] = set()
        self._closed = False
        self.session = opener()
        self._check_at = time.monotonic() + files_check_s
        self._complaint = ""

    # -- credentials

    def reload(self) -> None:
        """Read the credentials again. Raises ClusterError; the old ones stay in use then."""
        with self._load_lock:
            self._replace()

    def _replace(self) -> None:
        """With the load lock held."""
        old, self.session = self.session, self._opener()
        old.pool.clear()
        self._complaint = ""

    def _renew(self, refused: _Session) -> None:
        """Replace the credentials that got a 401, if no other thread has done so."""
        with self._load_lock:
            if self.session is refused:
                self._replace()

    def _fresh_session(self) -> _Session:
        """The session; a new one if a file it came from has changed. One that is being rewritten can wait."""
        if time.monotonic() < self._check_at:
            return self.session
        with self._load_lock:
            if time.monotonic() >= self._check_at:
                try:
                    if any(_stamp(path) != stamp for path, stamp in self.session.stamps.items()):
                        self._replace()
                except ClusterError as error:
                    if str(error) != self._complaint:
                        log.warning("still using the old credentials: %s", error)
                    self._complaint = str(error)
                self._check_at = time.monotonic() + self._files_check_s
            return self.session

    # -- requests

    @contextlib.contextmanager
    def calling(self) -> Iterator[_Call]:
        """A call that :meth:`close` knows of. Raises ApiError when closed."""
        with self._calls_lock:
            if self._closed:
                raise ApiError("the connection to the API server is closed")
            call = _Call()
            self._calls.add(call)
        try:
            yield call
        finally:
            call.finish()
            with self._calls_lock:
                self._calls.discard(call)

    def ask(self, request: _Request, limit: int = ANSWER_BYTES) -> bytes:
        """The body, of at most ``limit`` bytes, of a successful answer. Raises ApiError."""
        with self.calling() as call:
            response = self.send(call, request, self._request_timeout_s)
            try:
                return self.read(call, request, response, limit)
            finally:
                # Of an answer that was read to its end, the connection has gone back to the pool already.
                response.close()

    def read(self, call: _Call, request: _Request, response: Any, limit: int) -> bytes:
        """The whole body. Raises ApiError if it is too long, or no success."""
        parts, size = [], 0
        try:
            while part := response.read(READ_BYTES):
                parts.append(part)
                size += len(part)
                if size > limit:
                    raise _bad_answer(request.what, f"is larger than {limit >> 20} MiB")
        except _TRANSPORT_ERRORS as error:
            raise _unreachable(request.what, self.session.server, error, call) from error
        if call.broken:
            # Breaking it off may look like the end of an answer that does not tell its length.
            raise _unreachable(request.what, self.session.server, None, call)
        body = b"".join(parts)
        if not 200 <= response.status < 300:
            raise _refused(request.what, response.status, response.headers, body)
        return body

    def send(self, call: _Call, request: _Request, read_s: float) -> Any:
        """A urllib3 response whose body is not read yet; of the second try, where the first got a 401.

        ``read_s`` of silence break the reading of the body off. Raises ApiError where there was no answer.
        """
        session = self._fresh_session()
        response = self._send_once(call, session, request, read_s)
        if response.status != 401:
            return response
        response.close()
        call.allow(None)  # reading credentials has its own time
        try:
            self._renew(session)
        except ClusterError as error:
            text = f"{request.what}: the API server answered 401, and {error}"
            raise ApiError(text, status=401, reason="Unauthorized") from error
        return self._send_once(call, self.session, request, read_s)

    def _send_once(self, call: _Call, session: _Session, request: _Request, read_s: float) -> Any:
        headers = _headers(session, request)
        call.allow(self._request_timeout_s)
        started, code = time.monotonic(), "error"
        _current.call = call
        try:
            response = session.pool.urlopen(
                request.method,
                session.server + request.path,
                body=request.body,
                headers=headers,
                timeout=urllib3.Timeout(connect=min(CONNECT_TIMEOUT_S, self._request_timeout_s), read=read_s),
                redirect=False,
                retries=False,
                preload_content=False,
                enforce_content_length=True,
            )
            code = str(response.status)
        except _TRANSPORT_ERRORS as error:
            raise _unreachable(request.what, session.server, error, call) from error
        finally:
            _current.call = None
            if session is not self.session:
                session.pool.clear()  # replaced meanwhile: nobody else will
            if self._observe is not None:
                self._observe(request.verb, code, time.monotonic() - started)
        return response

    def close(self) -> None:
        """Break off all calls; there will be no others."""
        with self._calls_lock:
            self._closed = True
            calls = list(self._calls)
        for call in calls:
            call.break_off(_CLOSED)
        self.session.pool.clear()


def _headers(session: _Session, request: _Request) -> dict[str, str]:
    """Raises ApiError, as if the server had refused, where there is no credential: it would."""
    headers = {"Accept": "application/json", "User-Agent": f"kiptail/{__version__}"}
    if request.body is not None:
        headers["Content-Type"] = request.content_type
    try:
        authorization = session.credential.header()
    except ClusterError as error:
        raise ApiError(f"{request.what}: {error}", status=401, reason="Unauthorized") from error
    if authorization is not None:
        headers["Authorization"] = authorization
    return headers


# -- the API -------------------------------------------------------------------------------------------------


class KubeApi:
    """Requests to one API server, from any number of threads.

    Every method that sends one raises :class:`~kiptail.errors.ApiError` and nothing else. A 401 makes it
    read the kubeconfig again (once for all the threads that got one) and ask a second time. Nothing else is
    retried.
    """

    def __init__(self, transport: _Transport) -> None:
        """Use :meth:`from_kubeconfig`."""
        self._transport = transport
        if not transport.session.verified:
            log.warning("insecure-skip-tls-verify: anybody between here and %s can read the token", self.server)

    @classmethod
    def from_kubeconfig(
        cls,
        path: Path,
        *,
        context: str | None = None,
        server: str | None = None,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
        files_check_s: float = FILES_CHECK_S,
        observe: Observe | None = None,
    ) -> KubeApi:
        """From a kubeconfig; no request is made, but an exec plugin is run.

        ``context`` instead of the current one, ``server`` (a URL) instead of the cluster's. A request may
        take ``request_timeout_s`` in all. Files are looked at for changes every ``files_check_s``.
        Raises ClusterError, one line, that names the file and what is wrong with it.
        """
        return cls(
            _Transport(
                lambda: _open_session(path, context, server),
                request_timeout_s=request_timeout_s,
                files_check_s=files_check_s,
                observe=observe,
            )
        )

    @property
    def server(self) -> str:
        """The URL of the API server, without a slash at the end."""
        return self._transport.session.server

    @property
    def user_name(self) -> str | None:
        """The user's name, where the credential is a client certificate: its CN."""
        return self._transport.session.user_name

    @property
    def node_name(self) -> str | None:
        """NAME, where the credential is a kubelet's client certificate, for ``system:node:NAME``."""
        name = self.user_name or ""
        return name.removeprefix(_NODE_USER) or None if name.startswith(_NODE_USER) else None

    def list_pods_page(
        self,
        *,
        limit: int,
        continue_token: str = "",
        resource_version: str | None = None,
        field_selector: str = "",
    ) -> Json:
        """One page of all namespaces' pods: a v1.PodList as a plain dict, with ``items`` and ``metadata``.

        ``resource_version`` belongs to the first page only and is left out where ``continue_token`` is given:
        the server refuses both. An answer larger than 64 MiB is an error.
        """
        query = {"limit": str(limit)}
        if continue_token:
            query["continue"] = continue_token
        elif resource_version is not None:
            query["resourceVersion"] = resource_version
        if field_selector:
            query["fieldSelector"] = field_selector
        request = _Request("cannot list pods", "list", "GET", f"{_PODS}?{urlencode(query)}")
        page = _document(request.what, self._transport.ask(request, LIST_BYTES))
        if page.get("items") is None:
            page["items"] = []
        if not isinstance(page["items"], list) or not isinstance(page.get("metadata"), dict):
            raise _bad_answer(request.what, "is no PodList")
        return page

    def watch_pods(
        self,
        *,
        resource_version: str,
        field_selector: str = "",
        timeout_s: int,
        bookmarks: bool = True,
        initial_events: bool = False,
        silence_s: float = WATCH_SILENCE_S,
    ) -> WatchStream:
        """A watch of all namespaces' pods, that connects when it is entered.

        The server ends it after ``timeout_s``. ``silence_s`` without a byte are an error: two bookmarks have
        not come then. With ``initial_events`` the state comes first (WatchList), up to an annotated bookmark.
        """
        query = {"watch": "1", "timeoutSeconds": str(timeout_s)}
        if resource_version:
            query["resourceVersion"] = resource_version
        if field_selector:
            query["fieldSelector"] = field_selector
        if bookmarks or initial_events:
            query["allowWatchBookmarks"] = "true"
        if initial_events:
            query |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        request = _Request("cannot watch pods", "watch", "GET", f"{_PODS}?{urlencode(query)}")
        return WatchStream(self._transport, request, longest_s=timeout_s + WATCH_SLACK_S, silence_s=silence_s)

    def create_event(self, namespace: str, body: Json) -> None:
        """Create a v1.Event. 409 (AlreadyExists): an Event of that name is there."""
        path = f"/api/v1/namespaces/{_segment(namespace)}/events"
        what = f"cannot create an Event in {namespace}"
        self._transport.ask(_Request(what, "create", "POST", path, _encode(body)))

    def patch_event(self, namespace: str, name: str, body: Json) -> None:
        """Change some fields of a v1.Event (a strategic merge patch). 404 (NotFound): there is none."""
        path = f"/api/v1/namespaces/{_segment(namespace)}/events/{_segment(name)}"
        what = f"cannot update an Event in {namespace}"
        self._transport.ask(_Request(what, "patch", "PATCH", path, _encode(body), _STRATEGIC_MERGE))

    def allowed(self, verb: str, resource: str, *, field_selector: tuple[str, str] | None = None) -> bool | None:
        """Whether this user may, in all namespaces (a SelfSubjectAccessReview); None where none may ask that.

        ``resource`` is a plural of the core group. Without the ``field_selector`` (key, value) that will be
        used, a kubelet is told that it may not list pods. Servers before 1.31 do not look at it.
        """
        attributes: Json = {"verb": verb, "resource": resource}
        if field_selector is not None:
            key, value = field_selector
            requirement = {"key": key, "operator": "In", "values": [value]}
            attributes["fieldSelector"] = {"requirements": [requirement]}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        what = f"cannot ask for the right to {verb} {resource}"
        try:
            body = self._transport.ask(_Request(what, "review", "POST", _REVIEWS, _encode(review)))
        except ApiError as error:
            if error.status in (403, 404):
                return None
            raise
        status = _document(what, body).get("status")
        if not isinstance(status, dict) or not isinstance(status.get("allowed", False), bool):
            raise _bad_answer(what, "is no SelfSubjectAccessReview")
        return bool(status.get("allowed", False))

    def reload(self) -> None:
        """Read the kubeconfig, token and certificates again and let go of idle connections.

        Raises ClusterError; what was in use stays in use then.
        """
        self._transport.reload()

    def close(self) -> None:
        """Break off all requests and watches, whatever thread they are in; every later one fails."""
        self._transport.close()


def _document(what: str, body: bytes) -> Json:
    """The JSON object. Raises ApiError."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _bad_answer(what, f"is no JSON ({one_line(str(error), 60)})") from error
    if not isinstance(document, dict):
        raise _bad_answer(what, "is no JSON object")
    return document


class WatchStream(Iterator[bytes], contextlib.AbstractContextManager["WatchStream"]):
    """The lines of a watch, each a metav1.WatchEvent in JSON, without its end: also ``ERROR`` events.

    Use it as a context manager (entering connects) and iterate over it in the same thread. It ends without
    an error when the server ends it or when it is closed; any thread may call :meth:`close`, at any time.

    Entering and iterating raise ApiError: what the server refused; 502 for a line of more than 8 MiB; no
    status for a silent, cut or broken connection, also when that happened in the middle of a line.
    """

    def __init__(self, transport: _Transport, request: _Request, *, longest_s: float, silence_s: float) -> None:
        self._transport = transport
        self._request = request
        self._longest_s = longest_s
        self._silence_s = silence_s
        self._stack = contextlib.ExitStack()
        self._lock = threading.Lock()
        self._call: _Call | None = None
        self._closed = False
        self._events: Iterator[bytes] = iter(())

    def __enter__(self) -> WatchStream:
        what = self._request.what
        with contextlib.ExitStack() as stack:
            try:
                call = stack.enter_context(self._transport.calling())
                with self._lock:
                    if self._closed:
                        return self
                    self._call = call
                response = self._transport.send(call, self._request, self._silence_s)
                stack.callback(response.close)
                if response.status != 200:
                    self._transport.read(call, self._request, response, ANSWER_BYTES)  # raises what it tells
                if response.status != 200 or not response.chunked:
                    # A proxy's page. API servers send a watch in chunks.
                    raise _bad_answer(what, "is no stream")
            except ApiError:
                if self._call is not None and self._call.broken == _CLOSED:
                    return self
                raise
            call.allow(self._longest_s)
            self._events = self._read(call, response)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._events = iter(())
        self._stack.close()

    def __next__(self) -> bytes:
        return next(self._events)

    def close(self) -> None:
        """End it, from any thread: entering or iterating comes back at once."""
        with self._lock:
            self._closed = True
        if self._call is not None:
            self._call.break_off(_CLOSED)

    def _read(self, call: _Call, response: Any) -> Iterator[bytes]:
        what = self._request.what
        try:
            for line in _lines(what, response.read_chunked(READ_BYTES)):
                if call.broken == _CLOSED:
                    return
                yield line
        except _TRANSPORT_ERRORS as error:
            if call.broken == _CLOSED:
                return
            if not call.broken and any(isinstance(link, HTTPTimeoutError) for link in _chain(error)):
                raise ApiError(f"{what}: nothing came for {self._silence_s:g} s") from error
            raise _unreachable(what, self._transport.session.server, error, call) from error


def _lines(what: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The complete lines, without their ends. Raises ApiError for one that is too long or has no end."""
    buffer = bytearray()
    for chunk in chunks:
        searched = len(buffer)
        buffer += chunk
        while (end := buffer.find(b"\n", searched)) >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            searched = 0
            if line:
                yield line
        if len(buffer) > WATCH_LINE_BYTES:
            raise _bad_answer(what, f"has a line of more than {WATCH_LINE_BYTES >> 20} MiB")
    if buffer:
        raise ApiError(f"{what}: the stream ended in the middle of a line")
