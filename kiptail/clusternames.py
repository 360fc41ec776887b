"""What the cluster calls addresses that are no pods': its nodes and Services, listed now and then.

That is a luxury, and it is kept cheap: a list is read page by page and reduced as it comes, only while somebody asks
for addresses that nobody knows, the more rarely the longer it is, and not at all beyond a size.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address, ip_network
from typing import Any, Protocol

from kiptail.errors import ApiError
from kiptail.podfeed import items_of, next_page
from kiptail.podranges import Network, PodRanges, covering

__all__ = ["ClusterNames", "NamesApi"]

log = logging.getLogger(__name__)

PAGE_LIMIT = 250
#: Seconds between two readings, and for each object that was there one more; up to a fifth is added or taken.
INTERVAL, INTERVAL_PER_OBJECT = 300.0, 1.0
#: After a reading that failed, and without the right, in seconds.
FAILED_RETRY, FORBIDDEN_RETRY = 30.0, 1_800.0
#: A longer list is not read.
MAX_NODES, MAX_SERVICES = 1_000, 5_000
#: So long after the start nothing is said of an address, for it may be one of these, in seconds.
FIRST_PATIENCE = 3.0
#: The API server takes no larger range for Services than 20 bits.
SERVICE_RANGES = {4: 12, 6: 108}


class NamesApi(Protocol):
    """What is asked of the API server. All raise :class:`ApiError`."""

    def list_nodes_page(self, *, limit: int, continue_token: str = "") -> dict[str, Any]:
        """One page of a NodeList."""

    def list_services_page(self, *, limit: int, continue_token: str = "") -> dict[str, Any]:
        """One page of a ServiceList."""


class _Reading:
    """One of the two lists, and when it is read next."""

    def __init__(
        self,
        plural: str,
        page: Callable[..., dict[str, Any]],
        reduce: Callable[[Mapping[str, Any]], Iterator[tuple[str, str]]],
        most: int,
    ) -> None:
        self.plural, self.page, self.reduce, self.most = plural, page, reduce, most
        self.names: dict[str, str] = {}
        self.again_at = 0.0
        self.complained = False


class ClusterNames:
    """Names of nodes and Services by address, kept by a thread of its own."""

    def __init__(self, api: NamesApi, *, ranges: PodRanges, nodes: bool) -> None:
        """``nodes``: list them too; an index of all pods knows them anyway. ``ranges`` learns of their pod ranges."""
        self._ranges = ranges
        self._pod_ranges: list[Network] = []
        services = _Reading("services", api.list_services_page, _service_names, MAX_SERVICES)
        self._readings = [services]
        if nodes:
            self._readings.append(_Reading("nodes", api.list_nodes_page, self._node_names, MAX_NODES))
        self._services = services
        self._service_ranges: tuple[Network, ...] = ()
        self._names: dict[str, str] = {}
        self._changed = threading.Condition()
        self._asked = self._closed = False
        self._settled = threading.Event()
        self._settle_by = time.monotonic() + FIRST_PATIENCE
        self._thread = threading.Thread(target=self._run, name="cluster-names", daemon=True)

    def start(self) -> None:
        """Begin to list."""
        self._settle_by = time.monotonic() + FIRST_PATIENCE
        self._thread.start()

    def stop(self, timeout: float = 2.0) -> None:
        """End the thread; a request under way is not waited for any longer than ``timeout`` seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def settled(self) -> bool:
        """The names were listed, or could not be."""
        return self._settled.is_set() or time.monotonic() >= self._settle_by

    def name(self, address: str) -> str:
        """``node/NAME``, ``service NAMESPACE/NAME``, or ""."""
        name = self._names.get(address, "")
        if not name and not self._asked:
            with self._changed:
                self._asked = True
                self._changed.notify()
        return name

    def no_pod(self, address: str) -> bool:
        """It is in the range that the cluster's Services have."""
        ip = ip_address(address)
        return any(ip in network for network in self._service_ranges)

    # -- the thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closed:
            for reading in self._readings:
                if time.monotonic() >= reading.again_at:
                    self._read(reading)
            self._take_over()
            self._settled.set()
            with self._changed:
                self._asked = False
                while not self._closed:
                    wait = min(reading.again_at for reading in self._readings) - time.monotonic()
                    if wait <= 0 and self._asked:
                        break
                    self._changed.wait(wait if wait > 0 else None)

    def _read(self, reading: _Reading) -> None:
        pause = INTERVAL
        try:
            names = self._listed(reading)
            if names is not None:
                reading.names = names
                pause += INTERVAL_PER_OBJECT * len(names)
        except ApiError as error:
            pause = FAILED_RETRY
            if error.status == 403:
                pause = FORBIDDEN_RETRY
                if not reading.complained:
                    reading.complained = True
                    log.info("addresses of %s are not named: %s", reading.plural, error)
            elif not self._closed:
                log.debug("addresses of %s cannot be named at present: %s", reading.plural, error)
        reading.again_at = time.monotonic() + pause * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, no secret

    def _listed(self, reading: _Reading) -> dict[str, str] | None:
        """Names by address; None when there are too many. Raises ApiError."""
        names: dict[str, str] = {}
        token, read = "", 0
        if reading.plural == "nodes":
            self._pod_ranges = []
        while not self._closed:
            page = reading.page(limit=PAGE_LIMIT, continue_token=token)
            items = items_of(page)
            read += len(items)
            more = (page.get("metadata") or {}).get("remainingItemCount")
            if read + (more if type(more) is int else 0) > reading.most:
                if not reading.complained:
                    reading.complained = True
                    log.info("addresses of %s are not named: there are more than %d", reading.plural, reading.most)
                return None
            for item in items:
                names.update(reading.reduce(item))
            token = next_page(page)
            if not token:
                return names
        return None

    def _take_over(self) -> None:
        names: dict[str, str] = {}
        # Nodes last: a load balancer may have Services use their addresses.
        for reading in self._readings:
            names |= reading.names
        self._names = names
        self._ranges.note_nodes(self._pod_ranges)
        cluster_ips = [address for address, name in self._services.names.items() if names.get(address) == name]
        ranges = (covering(cluster_ips, version=version, longest=most) for version, most in SERVICE_RANGES.items())
        self._service_ranges = tuple(network for network in ranges if network is not None)

    def _node_names(self, obj: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        name = _mapping(obj.get("metadata")).get("name")
        for entry in _list(_mapping(obj.get("status")).get("addresses")):
            address = _address(_mapping(entry).get("address"))
            if address:
                yield address, f"node/{name}"
        for text in _list(_mapping(obj.get("spec")).get("podCIDRs")):
            try:
                self._pod_ranges.append(ip_network(str(text)))
            except ValueError:
                continue


def _service_names(obj: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A Service's own addresses. Not ``externalIPs``: whoever may create a Service can claim any address there."""
    metadata, spec = _mapping(obj.get("metadata")), _mapping(obj.get("spec"))
    for text in _list(spec.get("clusterIPs")) or [spec.get("clusterIP")]:
        address = _address(text)
        if address:
            yield address, f"service {metadata.get('namespace')}/{metadata.get('name')}"


def _address(text: object) -> str:
    """In its canonical form; "" for a host's name, ``None`` and what is none."""
    try:
        return str(ip_address(str(text)))
    except ValueError:
        return ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
