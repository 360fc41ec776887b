"""Kubeconfigs for a test server, right ones and wrong ones."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.apiserver import certificates

__all__ = ["cluster_entry", "user_entry", "write_kubeconfig"]


def cluster_entry(server: str, ca: str) -> dict[str, Any]:
    """The cluster, trusted by way of `ca`: see `ApiServer.kubeconfig`."""
    cluster: dict[str, Any] = {"server": server}
    if ca == "embedded":
        cluster["certificate-authority-data"] = _base64(certificates.authority().certificate)
    elif ca == "wrong":
        cluster["certificate-authority-data"] = _base64(certificates.wrong_authority().certificate)
    elif ca == "file":
        cluster["certificate-authority"] = str(certificates.authority().certificate)
    elif ca == "insecure":
        cluster["insecure-skip-tls-verify"] = True
    elif ca != "none":
        raise ValueError(f"no such CA: {ca}")
    return cluster


def user_entry(token: str | None, token_file: Path | str | None, client: tuple[str, ...] | None) -> dict[str, Any]:
    """The caller: what is given of a token, a file with one, and a client certificate's name and groups."""
    user: dict[str, Any] = {}
    if token is not None:
        user["token"] = token
    if token_file is not None:
        user["tokenFile"] = str(token_file)
    if client is not None:
        pair = certificates.authority().client(*client)
        user["client-certificate-data"] = _base64(pair.certificate)
        user["client-key-data"] = _base64(pair.key)
    return user


def write_kubeconfig(
    path: Path | str,
    cluster: Mapping[str, Any],
    user: Mapping[str, Any],
    *,
    context: str,
    namespace: str | None,
) -> Path:
    """Write it, readable by its owner only. It is JSON, which is YAML."""
    where = {"cluster": context, "user": context}
    if namespace:
        where["namespace"] = namespace
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": context, "cluster": cluster}],
        "users": [{"name": context, "user": user}],
        "contexts": [{"name": context, "context": where}],
        "current-context": context,
    }
    path = Path(path)
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(json.dumps(config, indent=2) + "\n")
    return path


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
