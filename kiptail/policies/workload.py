"""Which labels tell a pod's workload from others, so that a rule can name it and nobody else (pure)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kiptail.pods.workload import HASH_LABEL, is_scheduled, made_from
from kiptail.policies.ends import Pod
from kiptail.policies.selector import Requirement, Selector

__all__ = ["Identity", "identify", "same_workload", "short_name"]

#: Labels that controllers give each pod, or each version of a workload, anew.
_VOLATILE = frozenset(
    {
        "apps.kubernetes.io/pod-index",
        "batch.kubernetes.io/controller-uid",
        "batch.kubernetes.io/job-completion-index",
        "controller-revision-hash",
        "controller-uid",
        "pod-template-generation",
        HASH_LABEL,
        "rollouts-pod-template-hash",
        "statefulset.kubernetes.io/pod-name",
    }
)
#: Names of Jobs, which are those of a workload where no CronJob made them: its have a time at their end.
_JOB_NAMES = frozenset({"batch.kubernetes.io/job-name", "job-name"})
#: In this order labels are preferred; those not in it follow by name.
_PREFERRED = (
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app",
    "k8s-app",
    "name",
    "component",
    "tier",
    "role",
)
#: These say how a workload was made, or which version it is: the last to be used.
_LAST = frozenset(
    {
        "app.kubernetes.io/managed-by",
        "app.kubernetes.io/version",
        "chart",
        "helm.sh/chart",
        "heritage",
        "version",
        *_JOB_NAMES,
    }
)
#: Labels of a pod of which all combinations are tried.
_MOST_LABELS = 8
#: Labels of others whose absence tells the pod from them.
_MOST_ABSENT = 16
#: Source: "Labels and Selectors" in Kubernetes' documentation. Another text cannot be in a rule.
_KEY = re.compile(r"(?:[a-z0-9](?:[-.a-z0-9]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?")
_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?)?")


@dataclass(frozen=True, slots=True)
class Identity:
    """A selector for a workload, in its namespace."""

    selector: Selector
    #: Those of the others that it selects all the same, for their labels do not differ.
    also: tuple[Pod, ...]


def same_workload(one: Pod, other: Pod) -> bool:
    """Whether they are of the same controller: of one Deployment also before and after a change of it."""
    if one.namespace != other.namespace:
        return False
    return one.name == other.name or (bool(one.owner) and _controller(one) == _controller(other))


def short_name(pod: Pod) -> str:
    """What the workload is called: its controller's name, or the pod's."""
    return _controller(pod).partition("/")[2] or pod.name


def identify(pod: Pod, others: Iterable[Pod]) -> Identity:
    """The least that selects ``pod`` and none of ``others``, which are of its namespace.

    That is one of its lasting labels, or several, and where those do not do, also that labels of others are absent.
    """
    avoided = list(others)
    labels = _lasting(pod)
    masks = [(requirement, _mask(requirement, avoided)) for requirement in labels]
    everybody = (1 << len(avoided)) - 1
    alike = everybody
    for _, mask in masks:
        alike &= mask
    absent: list[Requirement] = []
    if alike:
        absent = _absent(pod, [other for number, other in enumerate(avoided) if alike >> number & 1])
    for requirement in absent:
        everybody &= _mask(requirement, avoided)
    chosen = _fewest(masks, everybody)
    left = everybody
    for _, mask in chosen:
        left &= mask
    selector = Selector((*(requirement for requirement, _ in chosen), *absent))
    return Identity(selector, tuple(other for number, other in enumerate(avoided) if left >> number & 1))


def _fewest(masks: Sequence[tuple[Requirement, int]], everybody: int) -> Sequence[tuple[Requirement, int]]:
    """The best label and the fewest others that together select none; else all.

    The best one is what people call the workload by. Others alone may do today, and mean another workload tomorrow.
    """
    best, tried = masks[:1], masks[1:_MOST_LABELS]
    for size in range(len(tried) + 1):
        for more in itertools.combinations(tried, size):
            chosen = [*best, *more]
            left = everybody
            for _, mask in chosen:
                left &= mask
            if not left:
                return chosen
    return masks


def _mask(requirement: Requirement, pods: Sequence[Pod]) -> int:
    """A bit for each pod for which it holds."""
    return sum(1 << number for number, pod in enumerate(pods) if requirement.holds(pod.labels))


def _absent(pod: Pod, alike: Sequence[Pod]) -> list[Requirement]:
    """Which labels' absence tells the pod from those that have all of its own: those of the most of them first."""
    found: list[Requirement] = []
    while alike and len(found) < _MOST_ABSENT:
        counts: dict[str, int] = {}
        for other in alike:
            for requirement in _lasting(other):
                if requirement.key not in pod.labels:
                    counts[requirement.key] = counts.get(requirement.key, 0) + 1
        if not counts:
            break
        key = min(counts, key=lambda each: (-counts[each], each))
        found.append(Requirement(key, "DoesNotExist"))
        alike = [other for other in alike if key not in other.labels]
    return found


def _lasting(pod: Pod) -> list[Requirement]:
    """Its labels that say which workload it is of, the best first."""
    usable = [
        key
        for key, value in pod.labels.items()
        if key not in _VOLATILE
        and not (key in _JOB_NAMES and is_scheduled(value))
        and _KEY.fullmatch(key)
        and _VALUE.fullmatch(value)
    ]
    return [Requirement(key, "In", (pod.labels[key],)) for key in sorted(usable, key=_rank)]


def _rank(key: str) -> tuple[int, str]:
    if key in _PREFERRED:
        return _PREFERRED.index(key), ""
    return len(_PREFERRED) + (key in _LAST), key


def _controller(pod: Pod) -> str:
    """``KIND/NAME`` without what changes from one version, or one run, to the next; "" of a pod of its own."""
    kind, _, name = pod.owner.partition("/")
    return "/".join(made_from(kind, name, pod.labels.get(HASH_LABEL, ""))) if kind else ""
