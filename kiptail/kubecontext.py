"""Which cluster, user and files a context of a kubeconfig means; says what is wrong before anything is loaded."""

from __future__ import annotations

import base64
import copy
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from kiptail.errors import ClusterError, one_line
from kiptail.kubefiles import CREDENTIAL_BYTES, read_file

__all__ = ["Json", "choose", "named_files", "usable_server"]

Json: TypeAlias = dict[str, Any]


def choose(path: Path, document: Json, wanted: str | None) -> tuple[Json, Json]:
    """Copies of the ``cluster`` and ``user`` mappings of a context, by default the current one.

    Raises ClusterError.
    """
    name = wanted or document.get("current-context")
    contexts = document.get("contexts")
    entries = contexts if isinstance(contexts, list) else []
    known = [str(entry["name"]) for entry in entries if isinstance(entry, dict) and "name" in entry]
    hint = f"it has {one_line(', '.join(known), 100)}" if known else "it has none"
    if not name:
        problem = f"the kubeconfig {path} has no current-context ({hint})"
        raise ClusterError(problem, remedy="name one with --context" if known else "")
    context = _entry(document, "contexts", "context", name)
    if context is None:
        problem = f"the kubeconfig {path} has no context {one_line(repr(name), 100)} ({hint})"
        raise ClusterError(problem, remedy="name one of these with --context" if known else "")
    cluster = _entry(document, "clusters", "cluster", context.get("cluster"))
    if cluster is None:
        raise ClusterError(f"the kubeconfig {path} has no cluster {one_line(repr(context.get('cluster')), 100)}")
    user = _entry(document, "users", "user", context["user"]) if context.get("user") else {}
    if user is None:
        raise ClusterError(f"the kubeconfig {path} has no user {one_line(repr(context['user']), 100)}")
    return cluster, user


def _entry(document: Json, section: str, key: str, name: object) -> Json | None:
    """The ``key`` mapping of the entry called ``name`` in a section such as ``clusters``."""
    entries = document.get(section)
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and entry.get("name") == name:
            value = entry.get(key)
            return copy.deepcopy(value) if isinstance(value, dict) else {}
    return None


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
            except (ValueError, AttributeError) as error:
                raise ClusterError(f"the kubeconfig {path}: {key}-data is not base64") from error
        elif name:
            if not isinstance(name, str):
                raise ClusterError(f"the kubeconfig {path}: {key} is not a path")
            files[key] = path.parent / name
            read_file(files[key], f"the kubeconfig {path}: {key}", CREDENTIAL_BYTES)
    return files


def usable_server(path: Path, cluster: Json, server: str | None) -> str:
    """The URL of the cluster's server, or ``server`` instead of it. Raises ClusterError."""
    url = server or cluster.get("server")
    where = "--server" if server else f"the kubeconfig {path}: the cluster's server"
    if not url:
        raise ClusterError(f"the kubeconfig {path}: the cluster has no server", remedy="give one with --server")
    try:
        parts = urlsplit(str(url))
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or "@" in parts.netloc:
        raise ClusterError(f"{where} is not a URL such as https://10.0.0.1:6443: {one_line(str(url), 100)}")
    return str(url).rstrip("/")
