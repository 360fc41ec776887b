"""Credentials that another program gives: an exec plugin, or an auth provider of the ``kubernetes`` package.

Plugins are run as kubectl does it (client.authentication.k8s.io/v1), but under :mod:`kiptail.program`, for a daemon
needs bounds: the ``kubernetes`` package waits for ever for a plugin, keeps all that it prints, and writes what it gives
to files in /tmp. That package's auth providers have no bounds either, so they run in a process of their own
(:mod:`kiptail.credentials.provider`), which is treated like a plugin: the daemon never imports it.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kiptail.credentials.files import clean_token, why
from kiptail.credentials.kubeconfig import Entry
from kiptail.credentials.schema import Json
from kiptail.credentials.tokens import RENEW_AT, claims_of
from kiptail.errors import ClusterError
from kiptail.program import Finished, ProgramError, in_memory, run_program
from kiptail.text import one_line

__all__ = ["PROVIDERS", "Given", "Plugin", "plugin_of"]

#: Keys of a kubeconfig's user whose credentials another program gives.
PROVIDERS = ("exec", "auth-provider")
#: What a plugin may take: nobody answers its questions, or somebody at a terminal does.
EXEC_TIMEOUT_S, TERMINAL_TIMEOUT_S = 30.0, 300.0
#: What it may write to each of its outputs. A credential takes some KiB.
OUTPUT_BYTES = 1 << 20
_GROUP = "client.authentication.k8s.io"
_VERSIONS = (f"{_GROUP}/v1", f"{_GROUP}/v1beta1")
#: The extension of a cluster whose object the plugin is given.
_EXTENSION = f"{_GROUP}/exec"
_PROVIDER = ("-P", "-m", "kiptail.credentials.provider")


@dataclass(frozen=True, slots=True)
class Given:
    """A credential: a token, a certificate with its key (PEM), or both."""

    token: str | None = field(default=None, repr=False)
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    #: In seconds since the epoch; None: once the API server refuses it.
    renew_at: float | None = None


#: Runs the program; ``stopped()`` breaks it off. Raises ClusterError.
Plugin = Callable[[Callable[[], bool]], Given]


def plugin_of(cluster: Entry, user: Entry, ca: bytes | None) -> Plugin | None:
    """What runs the plugin or provider of the kubeconfig's user, if it has one. Raises ClusterError.

    ``ca`` is the cluster's certificate authority. As in the ``kubernetes`` package, a provider comes before a token of
    the user's, and a plugin behind it.
    """
    if "auth-provider" in user.value:
        return _provider(user.where, user.value["auth-provider"])
    if "exec" not in user.value or user.value.get("token"):
        return None
    return _exec_plugin(user, user.value["exec"], cluster.value, ca)


# -- exec plugins ------------------------------------------------------------------------------------------------------


def _exec_plugin(user: Entry, config: Json, cluster: Json, ca: bytes | None) -> Plugin:
    command, version = config.get("command"), config.get("apiVersion", "")
    if not command:
        raise ClusterError(f"{user.where}: the exec plugin has no command")
    if version not in _VERSIONS:
        raise ClusterError(f"{user.where}: the exec plugin's apiVersion is neither {' nor '.join(_VERSIONS)}")
    # Arguments that stand there by mistake may be secret.
    shown = command.split()[0] if command.strip() else command
    name = f"{user.where}: the exec plugin {one_line(os.path.basename(shown) or shown, 60)}"
    if os.sep in command:
        command = str(user.path.parent / command)
    arguments = config.get("args", [])
    added = _environment(name, config.get("env", []))
    mode = config.get("interactiveMode") or "IfAvailable"
    if mode not in ("Never", "IfAvailable", "Always"):
        raise ClusterError(f"{name}: interactiveMode is neither Never, IfAvailable nor Always")
    on_terminal = mode != "Never" and _is_terminal(sys.stdin) and _is_terminal(sys.stderr)
    if mode == "Always" and not on_terminal:
        raise ClusterError(f"{name} wants a terminal (interactiveMode: Always), and there is none")
    spec: Json = {"interactive": on_terminal}
    if config.get("provideClusterInfo"):
        spec["cluster"] = _cluster_info(name, cluster, ca)
    try:
        info = json.dumps({"kind": "ExecCredential", "apiVersion": version, "spec": spec}, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ClusterError(f"{name}: the cluster's extension {_EXTENSION} is not JSON") from error
    hint = config.get("installHint", "")

    def ask(stopped: Callable[[], bool]) -> Given:
        try:
            done = run_program(
                [command, *arguments],
                env={**os.environ, **added, "KUBERNETES_EXEC_INFO": info},
                seconds=TERMINAL_TIMEOUT_S if on_terminal else EXEC_TIMEOUT_S,
                limit=OUTPUT_BYTES,
                on_terminal=on_terminal,
                stopped=stopped,
            )
        except ProgramError as error:
            absent = isinstance(error.__cause__, FileNotFoundError)
            raise ClusterError(f"{name} {error}", remedy=one_line(hint) if absent else "") from error
        return _credential(name, _status(name, done, version), time.time())

    return ask


def _environment(name: str, listed: list[Json]) -> dict[str, str]:
    added = {}
    for item in listed:
        key = item.get("name", "")
        if not key or "=" in key:
            raise ClusterError(f"{name}: env is not a list of names and values")
        added[key] = item.get("value", "")
    return added


def _cluster_info(name: str, cluster: Json, ca: bytes | None) -> Json:
    """A client.authentication.k8s.io Cluster: what a plugin needs to reach the API server itself."""
    keys = ("server", "tls-server-name", "insecure-skip-tls-verify", "proxy-url")
    info = {key: cluster[key] for key in keys if cluster.get(key)}
    if ca is not None:
        info["certificate-authority-data"] = base64.b64encode(ca).decode()
    for extension in cluster.get("extensions", []):
        if extension.get("name") == _EXTENSION:
            info["config"] = extension.get("extension")
    return info


def _status(name: str, done: Finished, version: str) -> Json:
    """The status of the ExecCredential that was printed. Raises ClusterError, without a word of it."""
    if done.code != 0:
        raise ClusterError(f"{name} {done.fate}{': ' if done.complaint else ''}{done.complaint}")
    try:
        document = json.loads(done.output)
    except (ValueError, RecursionError):
        raise ClusterError(f"{name} did not print an ExecCredential, but something that is not JSON") from None
    status = document.get("status") if isinstance(document, dict) else None
    if not isinstance(status, dict) or document.get("kind") != "ExecCredential":
        raise ClusterError(f"{name} did not print an ExecCredential with a status")
    if document.get("apiVersion") != version:
        raise ClusterError(f"{name} did not print an ExecCredential of {version}")
    return status


def _credential(name: str, status: Mapping[str, Any], now: float) -> Given:
    token, certificate, key = (
        _text(name, status, each) for each in ("token", "clientCertificateData", "clientKeyData")
    )
    if token is None and certificate is None:
        raise ClusterError(f"{name} gave neither a token nor a certificate")
    if (certificate is None) != (key is None):
        raise ClusterError(f"{name} gave a certificate without a key, or a key without a certificate")
    expires = _text(name, status, "expirationTimestamp")
    renew_at = None
    if expires is not None:
        try:
            moment = datetime.fromisoformat(expires)
            renew_at = now + RENEW_AT * (moment.timestamp() - now) if moment.tzinfo else None
        except (ValueError, OverflowError):
            pass
        if renew_at is None:
            raise ClusterError(f"{name}: its expirationTimestamp is no time such as 2030-01-31T12:00:00Z")
    return Given(
        token=None if token is None else clean_token(token, f"{name}: its token"),
        certificate=None if certificate is None else certificate.encode(errors="replace"),
        key=None if key is None else key.encode(errors="replace"),
        renew_at=renew_at,
    )


def _text(name: str, status: Mapping[str, Any], key: str) -> str | None:
    """None where there is none, or an empty one."""
    value = status.get(key)
    if value is not None and not isinstance(value, str):
        raise ClusterError(f"{name}: its {key} is no text")
    return value or None


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False


# -- auth providers ----------------------------------------------------------------------------------------------------


def _provider(where: str, config: Json) -> Plugin:
    name = f"{where}: the auth provider"
    if not config.get("name"):
        raise ClusterError(f"{name} has no name")
    name = f"{name} {one_line(config['name'], 60)}"
    document = json.dumps(config).encode()

    def ask(stopped: Callable[[], bool]) -> Given:
        try:
            with in_memory(document) as stdin:
                done = run_program(
                    [sys.executable, *_PROVIDER],
                    env={**os.environ, "PYTHONWARNINGS": "ignore"},
                    seconds=EXEC_TIMEOUT_S,
                    limit=OUTPUT_BYTES,
                    stdin=stdin,
                    stopped=stopped,
                )
        except OSError as error:
            raise ClusterError(f"{name} cannot be run: {why(error)}") from error
        except ProgramError as error:
            raise ClusterError(f"{name} {error}") from error
        given = _credential(name, _status(name, done, _VERSIONS[0]), 0.0)
        # The package gives the same token until it has expired.
        claims = claims_of(given.token or "")
        return Given(token=given.token, renew_at=claims.expires if claims else None)

    return ask
