"""What the fields of a pod object that are read have to look like (pure).

An object with a field of another type is not the API server's: half of what it says about addresses would be worse
than nothing. Source: the Kubernetes type core/v1 Pod.
"""

from __future__ import annotations

from typing import Any, TypeAlias

__all__ = ["misfit"]

#: A type; a tuple with the shape of a list's elements; or the fields' shapes, "" standing for all of them.
Shape: TypeAlias = "type | tuple[Any] | dict[str, Any]"

_TEXTS: Shape = {"": str}
_RUN: Shape = {"startedAt": str, "finishedAt": str}
_STATE: Shape = {"running": _RUN, "terminated": _RUN, "waiting": dict}
_CONTAINERS: Shape = ({"state": _STATE, "lastState": _STATE},)
_ADDRESSES: Shape = ({"ip": str},)
_POD: Shape = {
    "metadata": {
        "uid": str,
        "namespace": str,
        "name": str,
        "resourceVersion": str,
        "annotations": _TEXTS,
        "labels": _TEXTS,
        "deletionTimestamp": str,
        "deletionGracePeriodSeconds": int,
    },
    "spec": {"nodeName": str, "hostNetwork": bool, "terminationGracePeriodSeconds": int},
    "status": {
        "phase": str,
        "podIP": str,
        "podIPs": _ADDRESSES,
        "hostIP": str,
        "hostIPs": _ADDRESSES,
        "startTime": str,
        "conditions": ({"type": str, "status": str, "lastTransitionTime": str},),
        "initContainerStatuses": _CONTAINERS,
        "containerStatuses": _CONTAINERS,
        "ephemeralContainerStatuses": _CONTAINERS,
    },
}


def misfit(obj: object, shape: Shape = _POD, path: str = "pod") -> str:
    """The field that has a value of a wrong type, or ``pod`` for the object itself; "" where all fit. None is absent.

    Written with loops: it is called for each pod of a cluster.
    """
    if type(shape) is dict:
        if type(obj) is not dict:
            return path
        every = shape.get("")
        for field, value in obj.items():
            of = shape.get(field, every)
            if of is None or value is None or type(value) is of:
                continue
            if isinstance(of, type):
                return field if field in shape else path  # else the key of a label, which can be any text
            if bad := misfit(value, of, field):
                return bad
        return ""
    if type(obj) is not list:
        return path
    of = shape[0]  # type: ignore[index]  # a tuple
    for element in obj:
        if element is None or type(element) is of:
            continue
        if isinstance(of, type):
            return path
        if bad := misfit(element, of, path):
            return bad
    return ""
