"""Which proxy leads to the API server, if one does: the cluster's ``proxy-url``, or the environment's, as in kubectl.

The environment is read as Go's golang.org/x/net/http/httpproxy does it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

from kiptail.credentials.headers import basic
from kiptail.credentials.kubeconfig import Entry
from kiptail.credentials.url import shown_url, split_url
from kiptail.errors import ClusterError

__all__ = ["Proxy", "proxy_of"]

_PORTS = {"http": 80, "https": 443}


class Proxy(NamedTuple):
    """One that speaks HTTP, with or without TLS."""

    #: For an error: where it is configured.
    where: str
    #: Without user and password.
    url: str
    #: Its host, an IPv6 address without brackets.
    host: str
    #: Of user and password, for its ``Proxy-Authorization``; None without a user.
    authorization: str | None


def proxy_of(cluster: Entry, server: str, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy to ``server``, or None. Raises ClusterError, in which there is no password."""
    if url := cluster.value.get("proxy-url"):
        return _proxy(f"{cluster.where}: the proxy-url", url)
    target = urlsplit(server)
    variable, url = _variable(environ, f"{target.scheme}_proxy")
    if not url or not _is_proxied(target, _variable(environ, "no_proxy")[1]):
        return None
    return _proxy(f"the proxy in ${variable}", url if "://" in url else f"http://{url}")


def _proxy(where: str, url: str) -> Proxy:
    try:
        parts = split_url(url)
    except ValueError:
        parts = None
    # What is behind these may be the rest of a password that begins before.
    if parts is None or parts.query or parts.fragment or "@" in parts.path:
        raise ClusterError(f"{where} {shown_url(url)} cannot be used: write http://HOST:PORT")
    if parts.scheme not in _PORTS:
        problem = f"{where} {shown_url(url)} cannot be used: a proxy has to speak HTTP"
        raise ClusterError(problem, remedy="write http://HOST:PORT or https://HOST:PORT")
    address = parts.netloc.rpartition("@")[2]
    user = None
    if parts.username is not None:
        user = basic(unquote_to_bytes(parts.username), unquote_to_bytes(parts.password or ""))
    return Proxy(where, f"{parts.scheme}://{address}", parts.hostname or "", user)


def _variable(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    """Its name and value, in capitals first."""
    for each in (name.upper(), name):
        if value := environ.get(each, ""):
            return each, value.strip()
    return name, ""


def _is_proxied(target: SplitResult, exceptions: str) -> bool:
    """Whether a proxy of the environment is for ``target``: not for this machine, and not for the exceptions."""
    host = (target.hostname or "").lower().rstrip(".")
    port = str(target.port if target.port else _PORTS[target.scheme])
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return False
    return not any(_is_excepted(each, host, port, address) for each in _listed(exceptions))


def _listed(exceptions: str) -> Iterator[str]:
    return (each.strip().lower() for each in exceptions.split(",") if each.strip())


def _is_excepted(
    exception: str, host: str, port: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None
) -> bool:
    """``*``, a range of addresses, or a name or address, perhaps with a port. A name stands for those within it too."""
    if exception == "*":
        return True
    if "/" in exception:
        try:
            return address is not None and address in ipaddress.ip_network(exception, strict=False)
        except ValueError:
            return False
    name, colon, only = exception.rpartition(":")
    if colon and (":" not in name or name.startswith("[")):
        if only != port:
            return False
        exception = name
    exception = exception.strip("[]")
    if (its_address := _address(exception)) is not None:
        return address == its_address
    # ".example.org", or "*.example.org", is for what is within it only.
    within = exception.removeprefix("*")
    return host == within or (bool(within.strip(".")) and host.endswith("." + within.lstrip(".")))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
