"""Which pods a workload has, by their names and by their controllers (pure).

Whoever may list events need not be allowed to list pods, and pods that are gone have Events for another hour: then
the name decides, which controllers make in one way each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kiptail.config.values import quoted
from kiptail.kube.object_names import is_name
from kiptail.pods.workload import short_kind, workload_of

__all__ = ["Target", "may_own", "owned_by", "target"]

#: What Kubernetes makes names of (rand.SafeEncodeString).
_LETTER = "[bcdfghjklmnpqrstvwxz2456789]"
_SUFFIX = f"{_LETTER}{{5}}"
_HASH = f"{_LETTER}{{1,10}}"
#: A name that is made has at most 63 characters, and what is before its suffix is cut for that.
_BASE_LENGTH = 58

#: How kubectl abbreviates kinds, and with which group they can be written.
_KINDS = {
    "Pod": ("pod", "pods", "po"),
    "Deployment": ("deployment", "deployments", "deploy", "deployment.apps", "deployments.apps"),
    "ReplicaSet": ("replicaset", "replicasets", "rs", "replicaset.apps", "replicasets.apps"),
    "StatefulSet": ("statefulset", "statefulsets", "sts", "statefulset.apps", "statefulsets.apps"),
    "DaemonSet": ("daemonset", "daemonsets", "ds", "daemonset.apps", "daemonsets.apps"),
    "Job": ("job", "jobs", "job.batch", "jobs.batch"),
    "CronJob": ("cronjob", "cronjobs", "cj", "cronjob.batch", "cronjobs.batch"),
}
_KIND = {word: kind for kind, words in _KINDS.items() for word in words}


@dataclass(frozen=True, slots=True)
class Target:
    """Whose drops are wanted."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{short_kind(self.kind)}/{self.name}"


def target(text: str) -> Target:
    """``pod/web-0``, ``deploy/web``, ``web-0`` → the pod or workload. Raises ValueError."""
    kind, slash, name = text.rpartition("/")
    found = _KIND.get(kind.lower()) if slash else "Pod"
    if found is None:
        raise ValueError("is none of pod/NAME, deploy/NAME, rs/NAME, sts/NAME, ds/NAME, job/NAME and cronjob/NAME")
    if not is_name(name):
        raise ValueError(f"has no name of a {found.lower()}: {quoted(name)}")
    return Target(found, name)


def may_own(wanted: Target, pod: str) -> bool:
    """A pod of this name can be the workload's."""
    match wanted.kind:
        case "Pod":
            return pod == wanted.name
        case "StatefulSet":
            return re.fullmatch(rf"{re.escape(wanted.name)}-[0-9]{{1,10}}", pod) is not None
        case "Deployment":
            base = rf"{re.escape(wanted.name)}-{_HASH}-"
        case "CronJob":
            base = rf"{re.escape(wanted.name)}-(?:[0-9]{{8}}|[0-9]{{10}})-"
        case _:
            base = rf"{re.escape(wanted.name)}-"
    begin, suffix = pod[:-5], pod[-5:]
    if re.fullmatch(_SUFFIX, suffix) is None:
        return False
    whole = re.fullmatch(base, begin) is not None
    # Of a name that was cut the end of the base is missing.
    return whole or (len(begin) == _BASE_LENGTH and begin.startswith(f"{wanted.name}-"[:_BASE_LENGTH]))


def owned_by(wanted: Target, pod: Mapping[str, Any]) -> bool:
    """A pod object is the workload's, by its controller or by what made that."""
    metadata = pod.get("metadata")
    if not isinstance(metadata, Mapping):
        return False
    if wanted.kind == "Pod":
        return metadata.get("name") == wanted.name
    if wanted.kind in ("Deployment", "CronJob"):
        return workload_of(pod) == str(wanted)
    references = metadata.get("ownerReferences")
    return any(
        isinstance(each, Mapping)
        and each.get("controller") is True
        and (each.get("kind"), each.get("name")) == (wanted.kind, wanted.name)
        for each in (references if isinstance(references, list) else [])
    )
