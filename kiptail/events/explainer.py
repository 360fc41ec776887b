"""Why the packets of a flow were dropped, as far as NetworkPolicies say so: put together from whoever knows a part."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Protocol

from kiptail.events.endpoint import Endpoint, Kind
from kiptail.events.stages import Tracked
from kiptail.events.why import can_be_explained, reasons
from kiptail.pods.pod import Pod
from kiptail.policies import ends
from kiptail.policies.asker import Missing
from kiptail.policies.denial import deny, namespaces_that_matter
from kiptail.policies.ends import Connection, End, Outside
from kiptail.policies.evaluate import Rules

__all__ = ["Details", "Explainer", "Policies"]

#: Protocols whose ports policies know.
_WITH_PORTS = ("TCP", "UDP", "SCTP")


class Details(Protocol):
    """What is asked of the pod index."""

    def pod(self, address: str, uid: str) -> Pod | None:
        """The pod with the UID that Events name, as it is now, if it had the address and is not gone."""

    def outside(self, address: str, at_us: int) -> bool:
        """The address was surely no pod's at ``at_us``."""


class Policies(Protocol):
    """What is asked of whoever asks the API server."""

    def rules(self, namespace: str) -> Rules | Missing:
        """The policies of a namespace."""

    def labels(self, namespace: str) -> Mapping[str, str] | Missing:
        """The labels of a namespace."""


class Explainer:
    """Explains flows whose ends are decided. One thread asks."""

    def __init__(self, details: Details, policies: Policies) -> None:
        self._details, self._policies = details, policies
        #: Flows by result: denied, allowed, unknown, refused.
        self.results: Counter[str] = Counter()

    def explain(self, tracked: Tracked) -> dict[str, str] | None:
        """What the Event at each end says of policies, perhaps nothing; None while that is awaited."""
        if not can_be_explained(tracked.flow, tracked.endpoints):
            return {}
        said = self._explained(tracked)
        match said:
            case Missing.AWAITED:
                return None
            case Missing.REFUSED:
                self.results["refused"] += 1
            case Missing.UNKNOWN:
                self.results["unknown"] += 1
            case _:
                self.results["denied" if said else "allowed"] += 1
                return said
        return {}

    def _explained(self, tracked: Tracked) -> dict[str, str] | Missing:
        namespaces = {each.pods[0].namespace for each in tracked.endpoints.values() if each.kind is Kind.POD}
        rules = [self._policies.rules(namespace) for namespace in sorted(namespaces)]  # all asked for at once
        if missing := _missing(rules):
            return missing
        connection = self._connection(tracked)
        if connection is None:
            return Missing.UNKNOWN
        known = [each for each in rules if isinstance(each, Rules)]
        matter = namespaces_that_matter(connection, Rules.joined(known, {}))
        labels = {namespace: self._policies.labels(namespace) for namespace in sorted(matter)}
        if missing := _missing(labels.values()):
            return missing
        found = {namespace: each for namespace, each in labels.items() if not isinstance(each, Missing)}
        return reasons(deny(connection, Rules.joined(known, found)))

    def _connection(self, tracked: Tracked) -> Connection | None:
        source, destination = (self._end(tracked, tracked.endpoints[end], end) for end in ("src", "dst"))
        if source is None or destination is None:
            return None
        key = tracked.flow.key
        if key.protocol not in _WITH_PORTS:
            return Connection(source, destination)
        return Connection(source, destination, key.protocol, key.port) if key.port is not None else None

    def _end(self, tracked: Tracked, endpoint: Endpoint, end: str) -> End | None:
        """Who is there, as policies see it; None where too little is known."""
        address = ipaddress.ip_address(endpoint.address)
        if endpoint.kind is Kind.NOBODY:
            if endpoint.name.startswith("node/"):
                # As a pod on its network: only an ipBlock matches it, and its own pods' policies let it through.
                node = endpoint.name.removeprefix("node/")
                return ends.Pod(namespace="", name="", labels={}, addresses=(address,), host_network=True, node=node)
            return Outside(address) if self._details.outside(endpoint.address, tracked.when(end).at_us) else None
        ref = endpoint.pods[0]
        pod = self._details.pod(endpoint.address, ref.uid)
        if pod is None or pod.traits is None:
            return None
        return ends.Pod(
            namespace=ref.namespace,
            name=ref.name,
            labels=pod.traits.labels,
            addresses=(address,),
            ports=pod.traits.ports,
            node=pod.node,
        )


def _missing(answers: Iterable[object]) -> Missing | None:
    """Why an answer is missing, if one is; what is awaited is waited for only where that helps."""
    found = {each for each in answers if isinstance(each, Missing)}
    return next((why for why in (Missing.REFUSED, Missing.UNKNOWN, Missing.AWAITED) if why in found), None)
