"""What a pod belongs to, as a person calls it: ``deploy/web``, ``sts/db``, ``cronjob/backup`` (pure).

A pod's controller is often made by something else, which the pod does not name. The controller's name shows it: a
Deployment's ReplicaSet ends in the hash that the pod's label has as well, a CronJob's Job in the time that it was
scheduled for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kiptail.kube.fields import elements, mapping
from kiptail.kube.object_names import is_name

__all__ = ["HASH_LABEL", "is_scheduled", "made_from", "short_kind", "workload_of"]

#: As kubectl abbreviates kinds; others are in lower case.
_SHORT = {
    "Deployment": "deploy",
    "ReplicaSet": "rs",
    "ReplicationController": "rc",
    "StatefulSet": "sts",
    "DaemonSet": "ds",
}
#: Of one of these the pod is no part: a static pod's mirror belongs to its node.
_NO_WORKLOADS = frozenset({"Node"})
#: The label by which a Deployment distinguishes its ReplicaSets; their names end in its value.
HASH_LABEL = "pod-template-hash"
#: A CronJob calls its Jobs NAME-MINUTES, and up to Kubernetes 1.20 NAME-SECONDS, since 1970.
_SCHEDULED = re.compile(r"(.+)-([0-9]{8}|[0-9]{10})")
#: Times from 2017 to 2084: ``import-20261126`` is none.
_MINUTES, _SECONDS = range(25_000_000, 60_000_000), range(1_500_000_000, 3_600_000_000)
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9]{0,62}")
#: A pod has one or two owners; more are not looked at.
_MOST_OWNERS = 32


def workload_of(pod: Mapping[str, Any]) -> str:
    """What made a core/v1 Pod, as ``KIND/NAME``; ``pod/NAME`` where nothing did, "" where the pod has no usable name.

    The object may be anything: what is not as it should be is not looked at.
    """
    metadata = mapping(pod.get("metadata"))
    name = metadata.get("name")
    bare = f"pod/{name}" if is_name(name) else ""
    owner = _controller(metadata.get("ownerReferences"))
    kind, made_by = owner.get("kind"), owner.get("name")
    if not (is_name(made_by) and isinstance(kind, str) and _KIND.fullmatch(kind)) or kind in _NO_WORKLOADS:
        return bare
    suffix = mapping(metadata.get("labels")).get(HASH_LABEL)
    kind, made_by = made_from(kind, made_by, suffix if isinstance(suffix, str) else "")
    return f"{short_kind(kind)}/{made_by}"


def made_from(kind: str, name: str, template_hash: str) -> tuple[str, str]:
    """Kind and name of what made a controller, by the controller's name and its pods' hash; else its own."""
    if kind == "ReplicaSet" and template_hash and name.endswith(f"-{template_hash}"):
        return "Deployment", name[: -len(template_hash) - 1]
    if kind == "Job" and is_scheduled(name):
        return "CronJob", name.rpartition("-")[0]
    return kind, name


def is_scheduled(job: str) -> bool:
    """Whether a Job of this name was made by a CronJob."""
    found = _SCHEDULED.fullmatch(job)
    return found is not None and int(found[2]) in (_MINUTES if len(found[2]) == 8 else _SECONDS)


def short_kind(kind: str) -> str:
    """As kubectl abbreviates it; in lower case where it does not."""
    return _SHORT.get(kind, kind.lower())


def _controller(references: object) -> Mapping[str, Any]:
    """The owner that manages the pod; empty where none does."""
    owners = elements(references)[:_MOST_OWNERS]
    return next((owner for owner in map(mapping, owners) if owner.get("controller") is True), {})
