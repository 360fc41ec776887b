"""What the Events of tracked flows say: brought up to what is known by now, and put together when they are written."""

from __future__ import annotations

from typing import Any

from kiptail.clock.own import OwnClock
from kiptail.events.alike import Alike
from kiptail.events.also import also_in
from kiptail.events.annotation import ANNOTATION, flow_annotation
from kiptail.events.event import LIMITED, EventRecord, EventStyle, event_body, is_limited, message
from kiptail.events.stages import Stages, Tracked
from kiptail.events.why import isolating

__all__ = ["Wording"]


class Wording:
    """Words Events, each as this installation's look."""

    def __init__(self, style: EventStyle, stages: Stages, *, repeat_interval: float) -> None:
        """``stages``: all flows that are tracked; ``repeat_interval``: of updates, in seconds."""
        self.style = style
        #: Which Events say the same of other pods of a workload.
        self.alike = Alike(stages.get, interval_us=round(repeat_interval * 1e6))

    def restore(self, tracked: Tracked) -> None:
        """Bring a stored flow's texts up to the settings, if by those its rule logs at a limited rate.

        Where somebody is still to be found at an end, the texts are made once that is decided.
        """
        for record in tracked.records.values():
            record.also, record.also_us = also_in(record.message), record.sent_at_us
        self.alike.note(tracked)
        if not tracked.attributed or not is_limited(tracked.flow, self.style):
            return
        if not all(record.withdrawn or record.message.endswith(LIMITED) for record in tracked.records.values()):
            self.reword(tracked)

    def reword(self, tracked: Tracked) -> None:
        """Bring the Events' texts up to what is known by now."""
        for record in tracked.records.values():
            self._reword(tracked, record)

    def body(self, tracked: Tracked, record: EventRecord, clock: OwnClock) -> dict[str, Any]:
        """The whole Event as it is written now; ``clock`` makes of the flow's times those of the wall clock.

        How many other pods there are is said anew here, and only here: a text is never written for that alone.
        """
        if self.alike.grown(tracked, record, clock.now_us()):
            self._reword(tracked, record)
        flow, end, service = tracked.flow, record.end, tracked.service
        said = flow_annotation(
            flow,
            end,
            tracked.peer(end),
            self.style,
            workload=record.pod.workload,
            port_name=service.port_name if service is not None else "",
            isolated_by=isolating(record),
        )
        annotations = {ANNOTATION: said}
        peer_pod = tracked.peer_pod(end)
        return event_body(record, flow, self.style, peer_pod, annotations=annotations, wall_us=clock.wall_us)

    def _reword(self, tracked: Tracked, record: EventRecord) -> None:
        record.message = message(
            tracked.flow,
            record.end,
            tracked.peer(record.end),
            self.style,
            withdrawn=record.withdrawn,
            why=(tracked.why or {}).get(record.end, ""),
            service=tracked.service,
            also=(record.also, record.pod.workload),
        )
