"""Whether a pod's CNI plugin took its addresses back, though the pod object still shows them (pure).

Calico's plugin and Amazon's write a pod's address into an annotation, and blank that when they take the address back,
which can be long before the kubelet says that the pod has ended. But annotations can be written by whoever may change
the pod, who may want its packets to be nobody's. So one counts only where the plugin that writes it is in use, as far
as can be seen: it held this pod's address before. And it counts only together with what the kubelet alone writes: while
a container is shown as running, the pod has its addresses, and one that goes on in the same sandbox is not believed a
second time.
"""

from __future__ import annotations

from kiptail.pods.pod import Pod

__all__ = ["judged"]


def judged(pod: Pod, before: Pod | None) -> Pod:
    """``pod``, whose object was just seen, with :attr:`Pod.released` decided; ``before``: what was known of it."""
    if before is not None and (before.key != pod.key or before.addresses != pod.addresses):
        before = None
    if before is None or not (before.shown or before.released or before.distrusted):
        return pod  # nearly always
    pod = pod._replace(shown=pod.shown | before.shown)
    if pod.until_us is not None:
        return pod  # it has finished, which says more
    if pod.ready_us is not None and before.ready_us != pod.ready_us:
        return pod  # its sandbox, which the kubelet dates, is another one: what was said of the one before is over
    if before.distrusted or (before.released and pod.runs):
        return pod._replace(distrusted=True)
    if before.released:
        return pod._replace(released=True, until_us=before.until_us)
    if pod.blank & before.shown and not pod.runs:
        return pod._replace(released=True, until_us=pod.alive_us)
    return pod
