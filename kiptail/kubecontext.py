"""Which cluster, user and files a context of a kubeconfig means; says what is wrong before anything is loaded."""

from __future__ import annotations

import base64
import copy
import re
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from kiptail.errors import ClusterError, one_line
from kiptail.kubefiles import CREDENTIAL_BYTES, read_file

__all__ = ["Json", "choose", "named_files", "shown_url", "usable_server"]

Json: TypeAlias = dict[str, Any]


#: What the keys that kiptail uses have to be. Others may be anything.
_TYPES: dict[str, dict[str, tuple[type, str]]] = {
    "context": {},
    "cluster": {
        "server": (str, "text"),
        "certificate-authority": (str, "a path"),
        "certificate-authority-data": (str, "base64"),
        "insecure-skip-tls-verify": (bool, "true or false"),
        "tls-server-name": (str, "text"),
        "proxy-url": (str, "text"),
    },
    "user": {
        "client-certificate": (str, "a path"),
        "client-certificate-data": (str, "base64"),
        "client-key": (str, "a path"),
        "client-key-data": (str, "base64"),
        "tokenFile": (str, "a path"),
    },
}


def choose(path: Path, document: Json, wanted: str | None) -> tuple[Json, Json]:
    """Copies of the ``cluster`` and ``user`` mappings of a context, by default the current one.

    Their values are of the right types, but for a user's secrets. Raises ClusterError.
    """
    name = wanted or document.get("current-context")
    contexts = document.get("contexts")
    entries = contexts if isinstance(contexts, list) else []
    known = [str(entry["name"]) for entry in entries if isinstance(entry, dict) and _is_name(entry.get("name"))]
    hint = f"it has {one_line(', '.join(known), 100)}" if known else "it has none"
    if not name:
        problem = f"the kubeconfig {path} has no current-context ({hint})"
        raise ClusterError(problem, remedy="name one with --context" if known else "")
    context = _entry(path, document, "context", name)
    if context is None:
        problem = f"the kubeconfig {path} has no context {_quoted(name)} ({hint})"
        raise ClusterError(problem, remedy="name one of these with --context" if known else "")
    cluster = _entry(path, document, "cluster", context.get("cluster"))
    if cluster is None:
        raise ClusterError(f"the kubeconfig {path} has no cluster {_quoted(context.get('cluster'))}")
    user = _entry(path, document, "user", context["user"]) if context.get("user") else {}
    if user is None:
        raise ClusterError(f"the kubeconfig {path} has no user {_quoted(context['user'])}")
    return cluster, user


def _entry(path: Path, document: Json, kind: str, name: object) -> Json | None:
    """The mapping of the entry called ``name`` in a section such as ``clusters``. Raises ClusterError."""
    entries = document.get(f"{kind}s")
    for entry in entries if isinstance(entries, list) and _is_name(name) else []:
        if isinstance(entry, dict) and _is_name(entry.get("name")) and entry["name"] == name:
            value = entry.get(kind)
            found = copy.deepcopy(value) if isinstance(value, dict) else {}
            for key, (wanted, form) in _TYPES[kind].items():
                if found.get(key) is not None and not isinstance(found[key], wanted):
                    raise ClusterError(f"the kubeconfig {path}: {key} is not {form}")
            return found
    return None


def _is_name(value: object) -> bool:
    """Text, or a number that nobody put in quotes."""
    return isinstance(value, str) or (isinstance(value, int | float) and abs(value) < 1e300)


def _quoted(name: object) -> str:
    return one_line(repr(name), 100) if name is None or _is_name(name) else "of that name, which is no text"


def shown_url(url: object) -> str:
    """A URL for a message: without a password in it."""
    return re.sub(r"//[^/]*@", "//…@", one_line(str(url), 100)) if isinstance(url, str) else "that is no text"


def named_files(path: Path, cluster: Json, user: Json) -> dict[str, Path]:
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
            except ValueError as error:
                raise ClusterError(f"the kubeconfig {path}: {key}-data is not base64") from error
        elif name:
            files[key] = path.parent / name
            read_file(files[key], f"the kubeconfig {path}: {key}", CREDENTIAL_BYTES)
    return files


def usable_server(path: Path, cluster: Json, server: str | None) -> str:
    """The URL of the cluster's server, or ``server`` instead of it. Raises ClusterError."""
    url = server or cluster.get("server") or ""
    where = "--server" if server else f"the kubeconfig {path}: the cluster's server"
    if not url:
        raise ClusterError(f"the kubeconfig {path}: the cluster has no server", remedy="give one with --server")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and is_host(parts.hostname or "") and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or "@" in parts.netloc or not re.fullmatch(r"[^\s\x00-\x1f]+", url):
        raise ClusterError(f"{where} is not a URL such as https://10.0.0.1:6443: {shown_url(url)}")
    name = cluster.get("tls-server-name")
    if name and not is_host(name):
        raise ClusterError(f"the kubeconfig {path}: tls-server-name is no host's name: {one_line(name, 100)}")
    return url.rstrip("/")


def is_host(text: str) -> bool:
    """A name or an address, as a URL has it, but for an IPv6 address without its brackets."""
    try:
        text.encode("idna")
    except UnicodeError:
        return False
    return bool(re.fullmatch(r"[\w-]+(\.[\w-]+)*\.?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[\w.-]+)?", text))
