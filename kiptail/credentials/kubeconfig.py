"""Which cluster, user and files a context means, in one kubeconfig or in several that are merged as kubectl does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from kiptail.credentials import kubectl_yaml, schema
from kiptail.credentials.files import CREDENTIAL_BYTES, read_file
from kiptail.credentials.schema import Json
from kiptail.credentials.url import is_host, shown_url, split_url
from kiptail.errors import ClusterError
from kiptail.text import one_line

__all__ = [
    "KUBECONFIG_BYTES",
    "Chosen",
    "Entry",
    "choose",
    "context_namespace",
    "named_files",
    "read_kubeconfigs",
    "usable_server",
]

_REMEDY = "make one with `kiptail kubeconfig`, or name another with --kubeconfig"

KUBECONFIG_BYTES = 4 << 20
#: Longest name of a file (NAME_MAX).
_NAME_BYTES = 255
#: What a certificate or key begins with, as it is and in base64; and a token.
_CONTENTS = ("-----BEGIN", "LS0tLS", "eyJ")


class Entry(NamedTuple):
    """The mapping of a cluster, user or context, and the file that it stands in."""

    path: Path
    value: Json

    @property
    def where(self) -> str:
        """For an error."""
        return f"the kubeconfig {one_line(str(self.path))}"


@dataclass(slots=True)
class Merged:
    """All that the files say: of entries of one name, and of current contexts, the first."""

    #: For an error: the files, and that they have no …; that they have ….
    has_no: str
    has: str
    current: str = ""
    contexts: dict[str, Entry] = field(default_factory=dict)
    clusters: dict[str, Entry] = field(default_factory=dict)
    users: dict[str, Entry] = field(default_factory=dict)


class Chosen(NamedTuple):
    """What a context means. Its mappings hold values of the right types, and may be changed."""

    cluster: Entry
    user: Entry


def read_kubeconfigs(paths: Sequence[Path]) -> Merged:
    """The files, of which those that are missing are passed over unless all are. Raises ClusterError.

    Its text shows no value that may be a secret.
    """
    there = [path for path in paths if not _is_missing(path)] or paths[:1]
    named = " and ".join(one_line(str(path)) for path in there)
    merged = Merged(f"the kubeconfig {named} has no", "it has")
    if len(there) > 1:
        merged = Merged(f"the kubeconfigs {named} have no", "they have")
    for path in there:
        document = _read(path, alone=len(there) == 1)
        merged.current = merged.current or document.get("current-context", "")
        for section, known in (("contexts", merged.contexts), ("clusters", merged.clusters), ("users", merged.users)):
            for name, entry in _entries(path, section, document).items():
                known.setdefault(name, entry)
    return merged


def _is_missing(path: Path) -> bool:
    """One that cannot be seen is not: reading it tells why."""
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        pass
    return False


def _read(path: Path, *, alone: bool) -> Json:
    where = f"the kubeconfig {one_line(str(path))}"
    data = read_file(path, "the kubeconfig", KUBECONFIG_BYTES, hint="; name another with --kubeconfig")
    try:
        document = kubectl_yaml.parse(data)
    except ValueError as error:
        raise ClusterError(f"{where} is {error}") from error
    if document is None:
        if alone:
            raise ClusterError(f"{where} is empty")
        return {}
    if not isinstance(document, dict):
        raise ClusterError(f"{path} is not a kubeconfig; {_REMEDY}")
    try:
        document = schema.typed(document)
    except ValueError as error:
        raise ClusterError(f"{where}: {error}") from error
    if alone and not document.get("clusters"):
        raise ClusterError(f"{path} is not a kubeconfig: it lists no clusters; {_REMEDY}")
    return document


def _entries(path: Path, section: str, document: Json) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    kind = section.removesuffix("s")
    for item in document.get(section, ()):
        name = item.get("name", "")
        if name in found:
            raise ClusterError(f"the kubeconfig {one_line(str(path))}: {section} has two entries {_quoted(name)}")
        found[name] = Entry(path, item.get(kind, {}))
    return found


def choose(merged: Merged, wanted: str | None) -> Chosen:
    """Cluster and user of a context, by default the current one. Raises ClusterError."""
    name = wanted or merged.current
    known = [each for each in merged.contexts if each]
    hint = f"{merged.has} {one_line(', '.join(known), 100) or 'none'}"
    if not name:
        problem = f"{merged.has_no} current-context ({hint})"
        raise ClusterError(problem, remedy="name one with --context" if known else "")
    context = merged.contexts.get(name)
    if context is None:
        problem = f"{merged.has_no} context {_quoted(name)} ({hint})"
        raise ClusterError(problem, remedy="name one of these with --context" if known else "")
    cluster, user = context.value.get("cluster", ""), context.value.get("user", "")
    if cluster not in merged.clusters:
        raise ClusterError(f"{merged.has_no} cluster {_quoted(cluster)}")
    if user and user not in merged.users:
        raise ClusterError(f"{merged.has_no} user {_quoted(user)}")
    found = merged.users[user] if user else Entry(context.path, {})
    return Chosen(*(each._replace(value=dict(each.value)) for each in (merged.clusters[cluster], found)))


def context_namespace(merged: Merged, wanted: str | None) -> str:
    """The namespace that a context names, by default the current one's; "" where it names none."""
    context = merged.contexts.get(wanted or merged.current)
    namespace = context.value.get("namespace") if context is not None else None
    return namespace if isinstance(namespace, str) else ""


def _quoted(name: str) -> str:
    return one_line(repr(name), 100)


def named_files(cluster: Entry, user: Entry) -> dict[str, Path]:
    """The files that the kubeconfig names and that will be used, by their key. Raises ClusterError.

    Inline data that is there, and not just an empty string, wins over a file. A path is relative to the kubeconfig that
    it stands in.
    """
    files = {}
    for entry, key in (
        (cluster, "certificate-authority"),
        (user, "client-certificate"),
        (user, "client-key"),
        (user, "tokenFile"),
    ):
        name = entry.value.get(key)
        if name and not entry.value.get(f"{key}-data"):
            if _is_content(name):
                right = "token" if key == "tokenFile" else f"{key}-data, in base64"
                raise ClusterError(f"{entry.where}: {key} is not a path, but looks like what belongs into {right}")
            files[key] = entry.path.parent / name
            read_file(files[key], f"{entry.where}: {key}", CREDENTIAL_BYTES)
    return files


def _is_content(name: str) -> bool:
    """Somebody put the certificate, key or token where its path belongs: a message would show it."""
    longest = max(len(part.encode(errors="replace")) for part in name.split("/"))
    return longest > _NAME_BYTES or "\n" in name or name.strip().startswith(_CONTENTS)


def usable_server(cluster: Entry, server: str | None) -> str:
    """The URL of the cluster's server, or ``server`` instead of it. Raises ClusterError."""
    url = server or cluster.value.get("server", "")
    where = "--server" if server else f"{cluster.where}: the cluster's server"
    if not url:
        raise ClusterError(f"{cluster.where}: the cluster has no server", remedy="give one with --server")
    try:
        parts = split_url(url)
        usable = parts.scheme in ("http", "https") and not (parts.query or parts.fragment or "@" in parts.netloc)
    except ValueError:
        usable = False
    if not usable:
        raise ClusterError(f"{where} is not a URL such as https://10.0.0.1:6443: {shown_url(url)}")
    name = cluster.value.get("tls-server-name")
    if name and not is_host(name):
        raise ClusterError(f"{cluster.where}: tls-server-name is no host's name: {one_line(name, 100)}")
    return url.rstrip("/")
