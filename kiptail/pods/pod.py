"""A pod, as far as ownership of its addresses needs it (pure)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kiptail.pods.opt_out import OptOut
from kiptail.pods.traits import Traits

__all__ = ["HostPort", "Pod", "PodRef", "in_steady_time"]


class PodRef(NamedTuple):
    """A pod as an Event names it."""

    namespace: str
    name: str
    #: The UID that ``involvedObject.uid`` has to hold.
    uid: str
    #: The value of the label that ``--pod-identifier-label`` chose, or "".
    label: str = ""
    #: What made it, as :func:`kiptail.pods.workload.workload_of` calls it; "" = not known.
    workload: str = ""


class HostPort(NamedTuple):
    """A port of a pod's node that is the pod's."""

    protocol: str
    number: int
    #: The one of the node's addresses where it is; "" = all.
    address: str = ""


# More than 12 attributes: one for each sign that a pod's object gives of when it had its addresses.
class Pod(NamedTuple):
    """What ownership needs of a pod object. Times are µs since the epoch."""

    #: ``metadata.uid``: what the watch knows the object by.
    key: str
    ref: PodRef
    addresses: tuple[str, ...]
    #: When its sandbox, and with it the network, was ready; None = the object does not say.
    ready_us: int | None
    #: When the kubelet accepted it, which is before it had addresses; None = not yet.
    start_us: int | None
    #: When it stopped using them; None = it still does. Of one that ``released`` them, the last sign of it.
    until_us: int | None
    #: The CNI plugin took them back, at ``until_us`` or later, though the pod has not finished. What one object says
    #: does not tell that: see :func:`kiptail.pods.given_back.judged`.
    released: bool
    node: str
    #: The addresses of the node it runs on.
    host_addresses: tuple[str, ...]
    #: It is being deleted: its addresses may be another's, and only that one shows since when.
    leaving: bool = False
    #: The earliest start of a container as it runs, or ran last, and of the runs before those: then it had its
    #: addresses, or others if its sandbox was made anew in between.
    running_us: int | None = None
    ran_us: int | None = None
    #: Since when it has no sandbox, though it is shown with the addresses of one; None = it has one, or never had.
    lost_us: int | None = None
    #: When all of its containers had ended, whatever its phase says; None while one may run.
    stopped_us: int | None = None
    #: When its deletion was asked for, by the API server's clock.
    asked_us: int | None = None
    #: How long its containers may outlive the object when it is deleted by force.
    grace_us: int = 0
    #: The kubelet makes its sandbox: it is about to have an address.
    claiming: bool = False
    #: The ports that the kubelet's probes use.
    probes: tuple[int, ...] = ()
    #: Of the annotations in which CNI plugins keep addresses (:data:`kiptail.pods.pod_object.RELEASE_ANNOTATIONS`),
    #: those that hold one of its own and those that are blank: a bit for each.
    shown: int = 0
    blank: int = 0
    #: Some container of it is shown as running.
    runs: bool = False
    #: Of one with a blank annotation: the last time that the object shows it alive, by what the kubelet wrote.
    alive_us: int = 0
    #: It went on after it had released its addresses: what its annotations say does not count any more.
    distrusted: bool = False
    #: Ports of its node that are its own.
    host_ports: tuple[HostPort, ...] = ()
    #: Further addresses that an annotation says it has: kiptail.pods.claims. None = that cannot be read.
    claims: tuple[str, ...] | None = ()
    #: What NetworkPolicies look at, where that is asked for; None = not known.
    traits: Traits | None = None
    #: Whether its owner wants Events; None = not known.
    opt_out: OptOut | None = ""


def in_steady_time(pod: Pod, kubelets_us: Callable[[int], int], servers_us: Callable[[int], int]) -> Pod:
    """The pod with steady times, which these make of those that its kubelet, and the API server, dated."""

    def steady(wall_us: int | None) -> int | None:
        return None if wall_us is None else kubelets_us(wall_us)

    return pod._replace(
        ready_us=steady(pod.ready_us),
        start_us=steady(pod.start_us),
        until_us=steady(pod.until_us),
        running_us=steady(pod.running_us),
        ran_us=steady(pod.ran_us),
        lost_us=steady(pod.lost_us),
        stopped_us=steady(pod.stopped_us),
        asked_us=None if pod.asked_us is None else servers_us(pod.asked_us),
        alive_us=kubelets_us(pod.alive_us) if pod.alive_us else 0,
    )
