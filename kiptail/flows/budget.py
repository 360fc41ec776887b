"""How many flows an address may have for itself, how many a sender may cause, and how many are of made-up ones (pure).

A port scan, or a pod with a hundred unhappy clients, would be hundreds of Events. So an address has its own flows for
each direction only up to a budget; what is beyond is folded into one. Whoever sends to two thousand pods would make as
many Events at their ends: a flow is on its sender's account as long as it is open, and a sender whose account is full
has its drops counted in what is folded, at its own end, and at the others' where there is such a flow already.

And as senders can be spoofed, there is a bound on the new ones that are taken notice of. They are charged to the
address that they send to, which has a few of its own in a window, and beyond as many as all others together have left:
a crowd that is made up at one address leaves room at others.

All of it is decided by the order of the journal and the time of its drops alone, and is stored with the ledger, or
follows from the open flows: reading the same entries again decides the same. What an owner of an address has used up is
not held against the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from kiptail.flows.flow import ENDS, Flow, FlowKey

__all__ = ["Admission", "BudgetState", "Budgets", "Limits", "NodeWindow", "Window"]

#: Bytes of a flow's digest.
DIGEST = 8

#: The most addresses whose change of hands is remembered.
MAX_OWNERS = 65_536
#: How long a change of hands is remembered, in µs of event time: by then all flows of the owner before have ended.
OWNERS_US = 3_600 * 1_000_000

#: The most windows at a time; beyond, no new addresses are taken notice of. A bound of memory, far beyond what nodes
#: have.
MAX_WINDOWS = 65_536

#: Kept like the flows at an end: the new addresses that sent to this one.
GUESTS = "guests"


@dataclass(frozen=True, slots=True)
class Limits:
    """All of them are settings, but for the last."""

    #: Different flows of one address and direction in a window; further ones are folded.
    flows_per_address: int = 20
    #: Most senders in a window that had no flow before: to one address, as long as others have few. To all addresses
    #: together it is twice as many, but to each at least as many as it may have flows. Drops of senders that come later
    #: are reported at the other end only. Also the most pairs in a window of which both addresses are new.
    new_addresses: int = 500
    #: How long a window lasts, in µs of event time.
    window_us: int = 600 * 1_000_000
    #: Most flows open at a time; beyond, those that were quiet longest end early.
    open_flows: int = 20_000
    #: Most open flows of one sender, as a multiple of :attr:`flows_per_address`. They are enough for a kubelet whose
    #: probes of a hundred pods, on a few ports each, are dropped.
    sender_factor: int = 20

    @property
    def flows_per_sender(self) -> int:
        """Open flows of one sender; further ones are reported only where drops are folded."""
        return self.sender_factor * self.flows_per_address


@dataclass(slots=True)
class Window:
    """One address and end: the flows that were admitted since the window began. Or its :data:`GUESTS`."""

    address: str
    end: str
    since_us: int
    #: Digests of the flows' keys, or of the guests' addresses: one that comes back has its place already.
    flows: set[bytes]


class NodeWindow(NamedTuple):
    """The new addresses that were admitted since the window began."""

    since_us: int = 0
    #: Those that sent to an address that was known.
    addresses: int = 0
    #: Pairs that were both new, counted apart: senders that are made up must not use up what these need.
    pairs: int = 0


@dataclass(frozen=True, slots=True)
class BudgetState:
    """What is stored of budgets: windows that are new or differ, and those that are over."""

    windows: tuple[Window, ...] = ()
    node: NodeWindow = field(default_factory=NodeWindow)
    #: Windows that began before it are over.
    over_us: int = 0


class Admission(NamedTuple):
    """What a flow gets: at each end its own Event, a part in the folded one, or nothing."""

    own: tuple[str, ...]
    folded: tuple[str, ...]


@dataclass(slots=True)
class _Account:
    """A sender's open flows, by their ids, but for those of the address' owners before ``since_us``."""

    since_us: int = 0
    flows: dict[int, Flow] = field(default_factory=dict)


class _Owners:
    """When addresses began to be somebody else's, or may have, within :data:`OWNERS_US` or later."""

    def __init__(self) -> None:
        self._times: dict[str, tuple[int, ...]] = {}

    def hand_over(self, address: str, at_us: Iterable[int], now_us: int) -> None:
        """The address was given, or given back, at these times, in place of what was known of it."""
        times = tuple(us for us in at_us if us > now_us - OWNERS_US)
        if times and (address in self._times or len(self._times) < MAX_OWNERS):
            self._times[address] = times
        else:
            self._times.pop(address, None)

    def since(self, address: str, time_us: int) -> int:
        """Since when the address may have been that of whoever had it at ``time_us``; 0: nothing tells."""
        return max((at_us for at_us in self._times.get(address, ()) if at_us <= time_us), default=0)

    def forget(self, now_us: int) -> None:
        """All flows of the owners before have ended by now."""
        for address in [address for address, times in self._times.items() if times[-1] < now_us - OWNERS_US]:
            del self._times[address]


class Budgets:
    """Keeps windows and accounts. ``now_us`` is the ledger's watermark, which never goes back."""

    def __init__(self, limits: Limits, state: BudgetState) -> None:
        self._limits = limits
        self._windows = {(window.address, window.end): window for window in state.windows}
        self._changed: dict[tuple[str, str], Window] = {}
        self._node = state.node
        self._over_us = 0
        self._owners = _Owners()
        self._accounts: dict[str, _Account] = {}

    def hand_over(self, address: str, at_us: Iterable[int], now_us: int) -> None:
        """The address was given, or given back, at these times, in place of what was known of it."""
        self._owners.hand_over(address, at_us, now_us)

    def opened(self, flow: Flow) -> None:
        """A flow is on its sender's account now, if it has one: folded ones are many senders', or reported anyway."""
        if flow.spread is None:
            self._accounts.setdefault(flow.key.src, _Account()).flows[flow.id] = flow

    def ended(self, flow: Flow) -> None:
        """A flow is on nobody's account any more."""
        account = self._accounts.get(flow.key.src)
        if account is not None:
            account.flows.pop(flow.id, None)
            if not account.flows:
                del self._accounts[flow.key.src]

    def spent(self, sender: str, time_us: int) -> bool:
        """Whether the account of the sender that this address had at ``time_us`` is full."""
        account = self._accounts.get(sender)
        if account is None or len(account.flows) < self._limits.flows_per_sender:
            return False
        owner_us = self._owners.since(sender, time_us)
        if owner_us > account.since_us:
            account.since_us = owner_us
            account.flows = {id_: flow for id_, flow in account.flows.items() if flow.opened_us >= owner_us}
        return len(account.flows) >= self._limits.flows_per_sender

    def admit(self, key: FlowKey, reported: Mapping[str, int], now_us: int, time_us: int) -> Admission:
        """Decide on a flow whose first drop was at ``time_us``; ``reported``: addresses that have open flows."""
        known = [end for end in ENDS if self.knows(key.address(end), reported, now_us)]
        if len(known) < len(ENDS) and self._takes(key, known, now_us, time_us):
            known = [*ENDS]
        if self.spent(key.src, time_us):
            return Admission((), tuple(known))
        own = tuple(end for end in known if self.charge(key, end, now_us, time_us))
        return Admission(own, tuple(end for end in known if end not in own))

    def refuses(self, key: FlowKey, now_us: int, time_us: int) -> bool:
        """Whether :meth:`admit` gives the flow nothing of its own up to ``now_us``, and nothing changes by that.

        For one whose ends are known, and whose sender's account is not full.
        """
        digest, most = _digest(key.identity()), self._limits.flows_per_address
        for end in ENDS:
            window = self._windows.get((key.address(end), end))
            if window is None or digest in window.flows or len(window.flows) < most:
                return False
            if window.since_us < self._owners.since(window.address, time_us) or not self._lasts(
                window.since_us, now_us
            ):
                return False
        return True

    def knows(self, address: str, reported: Mapping[str, int], now_us: int) -> bool:
        """Whether the address was taken notice of and still is."""
        if reported.get(address):
            return True
        windows = (self._windows.get((address, end)) for end in ENDS)
        return any(window is not None and self._lasts(window.since_us, now_us) for window in windows)

    def forget(self, now_us: int) -> None:
        """Drop windows that are over; deciding makes no difference between them and none."""
        self._over_us = now_us - self._limits.window_us
        for register in (self._windows, self._changed):
            for place in [place for place, window in register.items() if window.since_us < self._over_us]:
                del register[place]
        self._owners.forget(now_us)

    def changes(self) -> BudgetState:
        """What is not stored yet."""
        return BudgetState(tuple(self._changed.values()), self._node, self._over_us)

    def committed(self) -> None:
        """The latest :meth:`changes` are stored."""
        self._changed = {}

    def _takes(self, key: FlowKey, known: Sequence[str], now_us: int, time_us: int) -> bool:
        """Whether notice is taken of what is new at the ends of ``key``, of which these are ``known``."""
        if len(self._windows) >= MAX_WINDOWS:
            return False
        if "src" in known:
            return True  # that is on the sender's account
        node, most = self._node, self._limits.new_addresses
        if not self._lasts(node.since_us, now_us):
            node = NodeWindow(now_us)
        if not known:
            takes, node = node.pairs < most, node._replace(pairs=node.pairs + 1)
        else:
            # As many as all others leave free (the dynamic thresholds of Choudhury and Hahne, by which the ports of a
            # switch share its memory), and a few in any case.
            left = max(2 * most - node.addresses, min(most, self._limits.flows_per_address))
            takes = self._enter((key.dst, GUESTS), _digest(key.src.encode()), left, now_us, time_us)
            node = node._replace(addresses=node.addresses + 1)
        if takes:
            self._node = node
        return takes

    def charge(self, key: FlowKey, end: str, now_us: int, time_us: int) -> bool:
        """Whether the flow, opened at ``time_us``, has a place in the window of its address, or gets one."""
        most = self._limits.flows_per_address
        return self._enter((key.address(end), end), _digest(key.identity()), most, now_us, time_us)

    def _enter(self, place: tuple[str, str], digest: bytes, most: int, now_us: int, time_us: int) -> bool:
        """Whether ``digest`` is in the window at this place, or there are fewer than ``most`` and it is from now on."""
        window = self._windows.get(place)
        if (
            window is None
            or window.since_us < self._owners.since(place[0], time_us)
            or not self._lasts(window.since_us, now_us)
        ):
            window = Window(*place, now_us, set())
        if digest in window.flows:
            return True
        if len(window.flows) >= most:
            return False
        window.flows.add(digest)
        self._windows[place] = self._changed[place] = window
        return True

    def _lasts(self, since_us: int, now_us: int) -> bool:
        return now_us - since_us <= self._limits.window_us


def _digest(identity: bytes) -> bytes:
    return blake2b(identity, digest_size=DIGEST).digest()
