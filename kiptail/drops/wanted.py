"""Which drops are wanted, of whom and since when (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kiptail.config.values import Moment
from kiptail.drops.owned import Target, may_own
from kiptail.drops.row import Row

__all__ = ["Wanted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was asked for."""

    #: "" is all namespaces.
    namespace: str
    reason: str
    target: Target | None = None
    since: Moment | None = None
    #: Of pods that are known, whether they are the target's; of all others the name decides.
    known: Mapping[str, bool] = field(default_factory=dict)

    @property
    def field_selector(self) -> str:
        """What the API server selects by."""
        fields = {"reason": self.reason}
        if self.target is not None and self.target.kind == "Pod":
            fields["involvedObject.name"] = self.target.name
        return ",".join(f"{field}={value}" for field, value in fields.items())

    @property
    def where(self) -> str:
        """The namespace, in words."""
        return f"{self.namespace} namespace" if self.namespace else "any namespace"

    def accepts(self, row: Row, now: float) -> bool:
        """A row is wanted at ``now``, in seconds since the epoch."""
        if self.since is not None and (row.last is None or row.last < self.since.at(int(now * 1e6)) / 1e6):
            return False
        if self.target is None:
            return True
        return self.known.get(row.pod, may_own(self.target, row.pod))
