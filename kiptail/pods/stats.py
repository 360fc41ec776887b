"""What the metrics tell of the pod index (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["IndexStats"]


@dataclass(frozen=True, slots=True)
class IndexStats:
    """Values at one time; the mappings and ``dual_stack_…`` count from the start."""

    #: Pods that are followed, and other pods that are known from look-ups.
    pods: int = 0
    remote_pods: int = 0
    #: Seconds since the API server last said anything about pods.
    age_s: float = 0.0
    #: Pods, and lines of a watch, that were not what they should be and were passed over.
    refused: int = 0
    #: Pods with an annotation about further addresses that could not be read.
    malformed: int = 0
    #: Look-ups by result.
    lookups: Mapping[str, int] = field(default_factory=dict)
    #: Addresses whose look-up, or dual-stack list, has not been answered yet.
    pending: int = 0
    #: Dual-stack lists that were read.
    dual_stack_lists: int = 0
    #: Pods read in dual-stack lists, and the seconds that took.
    dual_stack_pods: int = 0
    dual_stack_s: float = 0.0
