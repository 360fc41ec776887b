"""What the cluster calls addresses that are no pods': its nodes and Services, listed now and then.

That is a luxury, and it is kept cheap: a list is read page by page and reduced as it comes, only while somebody asks
for addresses that nobody knows, the more rarely the longer it is, and not at all beyond a size. It is read early for an
address where a new Service or node would have one.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address
from typing import Any, Protocol

from kiptail.errors import ApiError
from kiptail.kube.pages import items_of, pages
from kiptail.names.unnamed import SERVICE_RANGES, Unnamed, node_ranges, service_ranges
from kiptail.pods.address_names import LONGEST_PORT_NAME, AddressNames, note_node, note_service
from kiptail.pods.ranges import Network, PodRanges, covering
from kiptail.pods.traits import name_of_port

__all__ = ["ClusterNames", "NamesApi"]

log = logging.getLogger(__name__)

PAGE_LIMIT = 250
#: The API server keeps this Service itself: it has the first address of the Services' range.
FIRST_SERVICE = "service default/kubernetes"
#: Seconds between two readings, and for each object that was there one more; up to a fifth is added or taken.
INTERVAL, INTERVAL_PER_OBJECT = 300.0, 1.0
#: After a reading that failed, and without the right, in seconds.
FAILED_RETRY, FORBIDDEN_RETRY = 30.0, 1_800.0
#: A longer list is not read.
MAX_NODES, MAX_SERVICES = 1_000, 5_000
#: How long after the start nothing is said of an address, for it may be one of these, in seconds.
FIRST_PATIENCE = 3.0
#: Seconds from the question to a list that is read early, at random between the two: a look-up may find a pod
#: meanwhile, and not all nodes ask at once.
EARLY_AFTER = 0.5, 2.0


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
        reduce: Callable[[Mapping[str, Any], AddressNames], None],
        most: int,
    ) -> None:
        self.plural, self.page, self.reduce, self.most = plural, page, reduce, most
        self.listed = AddressNames()
        #: Objects there were in it, also when those were too many; None while that is not known.
        self.size: int | None = None
        self.again_at = 0.0
        #: Somebody asked since it was read; the first time nobody has to.
        self.asked = True
        self.complained = False
        #: Where addresses can be that it will name, and those there that it does not name yet.
        self.ranges: tuple[Network, ...] = ()
        self.unnamed = Unnamed()

    def next_at(self, now: float) -> float:
        """When it is read next, as far as that is known."""
        early = self.unnamed.next_at(now)
        return min(early, self.again_at) if self.asked else early


class ClusterNames:
    """Names of nodes and Services by address, kept by a thread of its own."""

    def __init__(
        self, api: NamesApi, *, ranges: PodRanges, nodes: bool, on_change: Callable[[], None] = lambda: None
    ) -> None:
        """``nodes``: list them too; an index of all pods knows them anyway. ``ranges`` learns of their pod ranges.

        ``on_change`` runs in the thread after a list that gave an address a name, or another one.
        """
        self._ranges, self._on_change = ranges, on_change
        self._services = _Reading("services", api.list_services_page, note_service, MAX_SERVICES)
        self._nodes = _Reading("nodes", api.list_nodes_page, note_node, MAX_NODES)
        # Nodes last: a load balancer may have Services use their addresses.
        self._readings = (self._services, self._nodes) if nodes else (self._services,)
        self._service_ranges: tuple[Network, ...] = ()
        #: What is known at present; replaced as a whole.
        self._known = AddressNames()
        #: For the readings' ``asked``, ``ranges`` and ``unnamed``.
        self._changed = threading.Condition()
        self._closed = False
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

    @property
    def known_nodes(self) -> int | None:
        """How many nodes the last list had; None while that is unknown, or forbidden."""
        return self._nodes.size

    def name(self, address: str) -> str:
        """``node/NAME``, ``service NAMESPACE/NAME``, or ""."""
        name = self._known.names.get(address, "")
        if not name:
            with self._changed:
                if self._ask(address):
                    self._changed.notify()
        return name

    def port_name(self, address: str, protocol: str, port: int) -> str:
        """What the Service with this address calls a port, or ""."""
        return name_of_port(self._known.ports.get(address, ()), protocol, port, longest=LONGEST_PORT_NAME)

    def note_pods(self, addresses: Iterable[str]) -> None:
        """These addresses turned out to be pods': no list is read for them."""
        with self._changed:
            for reading in self._readings:
                reading.unnamed.drop(addresses)

    def no_pod(self, address: str) -> bool:
        """It is in the range that the cluster's Services have."""
        return _within(address, self._service_ranges)

    def _ask(self, address: str) -> bool:
        """Note that somebody asks, with the lock held; True when the thread has something new to wait for."""
        new, now = False, time.monotonic()
        for reading in self._readings:
            new |= not reading.asked
            reading.asked = True
            if address not in reading.unnamed and not _within(address, reading.ranges):
                continue
            after = random.uniform(*EARLY_AFTER)  # noqa: S311 - jitter, no secret
            new |= reading.unnamed.ask(address, now=now, after=after)
        return new

    # -- the thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while due := self._next():
            for reading in due:
                self._read(reading)
            changed = self._take_over()
            self._settled.set()
            if changed and not self._closed:
                self._on_change()

    def _next(self) -> list[_Reading]:
        """Wait for the time of a list; none at the end."""
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                due = [reading for reading in self._readings if reading.next_at(now) <= now]
                if due:
                    return due
                at = min(reading.next_at(now) for reading in self._readings)
                self._changed.wait(at - now if at < math.inf else None)
            return []

    def _read(self, reading: _Reading) -> None:
        with self._changed:
            # Before the list, which may lack what is asked for while it is read.
            asked, reading.asked = reading.asked, False
            reading.unnamed.list_began()
        pause, listed, failed = INTERVAL, None, False
        try:
            listed = self._listed(reading)
        except ApiError as error:
            pause, failed = FAILED_RETRY, True
            if error.status == 403:
                pause, reading.size = FORBIDDEN_RETRY, None
                if not reading.complained:
                    reading.complained = True
                    log.info("addresses of %s are not named: %s", reading.plural, error)
            elif not self._closed:
                log.debug("addresses of %s cannot be named at present: %s", reading.plural, error)
        if listed is not None:
            reading.listed = listed
            pause += INTERVAL_PER_OBJECT * len(listed.names)
        now, jitter = time.monotonic(), random.uniform(0.0, 0.2)  # noqa: S311 - no secret
        reading.again_at = now + pause * (0.8 + 2 * jitter)
        with self._changed:
            # Whoever asked, perhaps once only, is still to be answered.
            reading.asked |= failed and asked
            if listed is not None:
                reading.unnamed.listed(listed.names, objects=reading.size or 0, now=now, jitter=1.0 + jitter)
            else:
                reading.unnamed.hold(reading.again_at)

    def _listed(self, reading: _Reading) -> AddressNames | None:
        """What the list says; None when it is too long. Raises ApiError."""
        listed = AddressNames()
        read = 0
        most_pages = 2 * reading.most // PAGE_LIMIT
        for page in pages(lambda token: reading.page(limit=PAGE_LIMIT, continue_token=token), most=most_pages):
            if self._closed:
                return None
            items = items_of(page)
            read += len(items)
            more = (page.get("metadata") or {}).get("remainingItemCount")
            total = read + (more if type(more) is int and more > 0 else 0)
            if total > reading.most:
                reading.size = total
                if not reading.complained:
                    reading.complained = True
                    log.info("addresses of %s are not named: there are more than %d", reading.plural, reading.most)
                return None
            for item in items:
                reading.reduce(item, listed)
        reading.size = read
        return listed

    def _take_over(self) -> bool:
        """Publish what the lists say; True when an address has a name that it did not have before."""
        before = self._known.names
        names: dict[str, str] = {}
        for reading in self._readings:
            names |= reading.listed.names
        self._known = AddressNames(names, ports=self._services.listed.ports)
        self._ranges.note_nodes(self._nodes.listed.pod_ranges)
        own = self._services.listed.names
        cluster_ips = [address for address, name in own.items() if names.get(address) == name]
        ranges = (covering(cluster_ips, version=version, longest=most) for version, most in SERVICE_RANGES.items())
        self._service_ranges = tuple(network for network in ranges if network is not None)
        first = next((address for address in cluster_ips if own[address] == FIRST_SERVICE), "")
        with self._changed:
            self._services.ranges = service_ranges(cluster_ips, first)
            self._nodes.ranges = node_ranges(self._nodes.listed.internal)
            for reading in self._readings:
                reading.unnamed.drop(names)  # an address can be in both ranges
        return any(before.get(address) != name for address, name in names.items())


def _within(address: str, networks: tuple[Network, ...]) -> bool:
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    return any(ip in network for network in networks)
