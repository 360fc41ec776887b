"""``kiptail kubeconfig``: with an administrator's kubeconfig, one for nodes: a service account's token in a file."""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kiptail.clock.dates import minute
from kiptail.credentials.files import CREDENTIAL_BYTES, read_file, why, write_secret
from kiptail.credentials.identity import ACCOUNT, manifests_command
from kiptail.credentials.kubeconfig import Entry, choose, named_files, read_kubeconfigs, usable_server
from kiptail.credentials.tokens import claims_of
from kiptail.errors import ApiError, ClusterError, KiptailError
from kiptail.kube.api import KubeApi
from kiptail.text import span

__all__ = ["Wanted", "administrators_kubeconfigs", "make_kubeconfig", "save"]

#: A token whose life is shorter than asked for by more than this part is worth a warning.
_SHORTENED = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be made, and with whose rights."""

    #: The administrator's kubeconfigs, which are merged, and the context in them.
    kubeconfigs: tuple[Path, ...]
    context: str | None
    #: The API server's URL in the new file; None: as in the administrator's.
    server: str | None
    namespace: str
    account: str
    #: Life of the token, in seconds.
    duration: float


def administrators_kubeconfigs(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Where kubectl would look, and where kubeadm puts it."""
    listed = tuple(dict.fromkeys(Path(name) for name in environ.get("KUBECONFIG", "").split(":") if name))
    if any(os.path.exists(path) for path in listed):
        return listed
    places = [*listed, Path(environ.get("HOME") or "/root") / ".kube" / "config", Path("/etc/kubernetes/admin.conf")]
    return (next((path for path in places if os.path.exists(path)), places[0]),)


def make_kubeconfig(wanted: Wanted) -> tuple[bytes, list[str]]:
    """The new kubeconfig, and what is to be said of it. Raises ClusterError."""
    cluster, user = choose(read_kubeconfigs(wanted.kubeconfigs), wanted.context)
    entry = _cluster(cluster, user, wanted.server)
    with contextlib.closing(KubeApi.from_kubeconfig(*wanted.kubeconfigs, context=wanted.context)) as api:
        try:
            token = api.request_token(wanted.namespace, wanted.account, seconds=round(wanted.duration))
        except ApiError as error:
            raise ClusterError(str(error), remedy=_remedy(wanted, error)) from error
    said = _warnings(wanted, entry, token)
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "kubernetes", "cluster": entry}],
        "users": [{"name": wanted.account, "user": {"token": token}}],
        "contexts": [{"name": "kiptail", "context": {"cluster": "kubernetes", "user": wanted.account}}],
        "current-context": "kiptail",
    }
    return json.dumps(document, indent=2).encode() + b"\n", said


def _remedy(wanted: Wanted, error: ApiError) -> str:
    if error.status == 404 and wanted.account == ACCOUNT:
        return f"apply `{manifests_command(wanted.namespace)}` first"
    if error.status == 404:
        create = f"kubectl create serviceaccount {wanted.account} --namespace {wanted.namespace}"
        return f"create it first (`{create}`) with the rights that `kiptail manifests` prints"
    if error.status == 403:
        return "this takes an administrator's kubeconfig"
    if error.status == 401:
        return "its credential is not accepted, it may have expired: name another with --kubeconfig"
    return error.remedy


def save(path: Path, data: bytes) -> None:
    """Write the file, for its owner alone, all of it or not at all. Raises KiptailError."""
    try:
        write_secret(path, data)
    except OSError as error:
        raise KiptailError(f"cannot write {path}: {why(error)}") from error


def _cluster(cluster: Entry, user: Entry, server: str | None) -> dict[str, Any]:
    """The cluster's part of the new file: nothing in it names a file of this machine."""
    entry: dict[str, Any] = {"server": usable_server(cluster, server)}
    files = named_files(cluster, user)
    if cluster.value.get("certificate-authority-data"):
        entry["certificate-authority-data"] = cluster.value["certificate-authority-data"]
    elif "certificate-authority" in files:
        data = read_file(files["certificate-authority"], "the certificate authority", CREDENTIAL_BYTES)
        entry["certificate-authority-data"] = base64.b64encode(data).decode()
    for key in ("tls-server-name", "proxy-url", "insecure-skip-tls-verify"):
        if cluster.value.get(key):
            entry[key] = cluster.value[key]
    return entry


def _warnings(wanted: Wanted, entry: dict[str, Any], token: str) -> list[str]:
    said = []
    claims = claims_of(token)
    if claims is None or claims.expires is None:
        said.append("the token does not say when it expires, so kiptail will not renew it")
    else:
        life = claims.expires - (claims.issued or claims.expires)
        end = minute(claims.expires)
        if 0 < life < _SHORTENED * wanted.duration:
            said.append(
                f"warning: the API server shortened the token's life from {span(wanted.duration)} to {span(life)}"
                " (its --service-account-max-token-expiration)"
            )
        said.append(f"the token expires {end}; a running kiptail renews it before, if it may ({_renewing(wanted)})")
    if _is_loopback(entry["server"]):
        said.append(f"warning: {entry['server']} is this machine only: name the address for nodes with --server")
    if entry.get("insecure-skip-tls-verify"):
        said.append("warning: insecure-skip-tls-verify is taken over: anybody on the way can read the token")
    return said


def _renewing(wanted: Wanted) -> str:
    """What lets the account renew its token."""
    if wanted.account == ACCOUNT:
        return f"`{manifests_command(wanted.namespace)}`"
    return "create serviceaccounts/token for itself"


def _is_loopback(server: str) -> bool:
    host = urlsplit(server).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
