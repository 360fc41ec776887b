"""How large the state file grows."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path

from bench.programs import BenchError
from kiptail.events.endpoint import Endpoint, Kind, When
from kiptail.events.event import EventStyle
from kiptail.events.recorder import Recorder
from kiptail.flows.flow import Flow, FlowKey
from kiptail.flows.ledger import Ledger
from kiptail.pods.ownership import PodRef
from kiptail.state.store import Store

__all__ = ["state_bytes"]

#: New pairs of pods whose packets are dropped, in ten minutes of event time: nearly all that the budgets allow.
_PAIRS = 400
_MINUTE_US = 60 * 1_000_000
_BEGIN_US = 1_800_000_000 * 1_000_000


class _Everybody:
    """Each address is a pod's."""

    def ready(self) -> bool:
        return True

    def current(self) -> bool:
        return True

    def locate(self, address: str, when: When, *, patient: bool) -> Endpoint | None:
        return Endpoint(Kind.POD, address, (PodRef("team-a", f"web-{address}", f"{address:-^36}"),))

    def locate_again(self, endpoint: Endpoint, when: When, *, patient: bool) -> Endpoint | None:
        return endpoint

    def contested(self, address: str, when: When) -> bool:
        return False

    def named(self, endpoint: Endpoint) -> Endpoint:
        return endpoint

    def unowned(self, address: str, at_us: int) -> bool:
        return False

    def cluster_name(self, address: str) -> str:
        return ""

    def with_port(self, found: Endpoint, flow: Flow, end: str, before: Endpoint | None = None) -> Endpoint:
        return found

    def probes(self, src: Endpoint, dst: Endpoint, port: int) -> bool:
        return False


class _Cluster:
    """Takes every Event, or none."""

    def __init__(self, *, away: bool) -> None:
        self._away = away

    def create(self, event: object) -> None:
        if self._away:
            raise BenchError("nothing is sent while the cluster is away")

    update = create


def state_bytes(hours: int, *, away: bool) -> int:
    """Bytes of all state files when every ten minutes brought 400 new pairs of pods; ``away``: the cluster was."""
    with tempfile.TemporaryDirectory() as directory, closing(Store.open(Path(directory))) as store:
        recorder = Recorder(
            sink=_Cluster(away=away),
            locate=_Everybody(),
            outbox=store,
            style=EventStyle("PacketDrop", "kiptail", "worker-3", "name_with_namespace"),
            repeat_interval=120.0,
            give_up_after=float("inf"),
            most_ended=20_000,
            hold=away,
            paced=False,
        )
        ledger = Ledger()
        for minute in range(hours * 60):
            for pair in range(_PAIRS // 10):
                number = minute * (_PAIRS // 10) + pair
                client = f"10.{number // 65_536}.{number // 256 % 256}.{number % 256}"
                key = FlowKey(
                    client, f"10.9.{minute % 250}.{pair}", "TCP", 80, None, None, False, "calico-drop:", "drop"
                )
                ledger.add(key, _BEGIN_US + minute * _MINUTE_US + pair)
            changes = ledger.changes()
            store.commit(changes, None)
            ledger.committed()
            for flow in changes.flows:
                recorder.arrive(flow.copy())
            while recorder.pause() <= 0:
                recorder.step()
        return sum(path.stat().st_size for path in Path(directory).iterdir())
