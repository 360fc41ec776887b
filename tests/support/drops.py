"""Events about drops, as kiptail and others write them, and ``kubectl-drops`` as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kiptail.events.annotation import ANNOTATION, flow_annotation
from kiptail.events.endpoint import Endpoint, Kind
from kiptail.events.event import EventRecord, EventStyle, event_body, event_name, message
from kiptail.flows.flow import Flow, FlowKey
from kiptail.pods.ownership import PodRef

__all__ = [
    "ROOT",
    "SERVER",
    "STYLE",
    "command",
    "drop_event",
    "flow_of",
    "other_event",
    "pod_at",
    "run_drops",
    "variables",
]

ROOT = Path(__file__).parents[2]
STYLE = EventStyle("PacketDrop", "kiptail", "worker-3", "name_with_namespace")
_KEY = FlowKey("10.0.0.1", "10.0.0.2", "TCP", 8080, None, None, reply=False, prefix="calico-drop:", verdict="drop")


def pod_at(name: str, address: str = "10.0.0.2", namespace: str = "team-b") -> Endpoint:
    """A pod at an end."""
    return Endpoint(Kind.POD, address, (PodRef(namespace, name, f"uid-{name}"),))


#: The peer where none is given.
SERVER = pod_at("server")


def flow_of(count: int = 3, *, last: float | None = None, **key: Any) -> Flow:
    """A flow whose last drop was at ``last``, in seconds since the epoch; the first was a minute before."""
    last_us = int((time.time() if last is None else last) * 1e6)
    first_us = last_us - 60_000_000
    return Flow(1, _KEY._replace(**key), first_us, first_us, last_us, last_us, count)


def drop_event(
    pod: str,
    peer: Endpoint = SERVER,
    flow: Flow | None = None,
    *,
    end: str = "src",
    namespace: str = "team-a",
    isolated_by: Sequence[str] = (),
    annotated: bool = True,
    withdrawn: bool = False,
) -> dict[str, Any]:
    """What kiptail posts of a flow for the pod at one end."""
    flow = flow or flow_of()
    text = message(flow, end, peer, STYLE, withdrawn=withdrawn)
    ref = PodRef(namespace, pod, f"uid-{pod}")
    name = event_name(flow, end, ref, STYLE.node_name)
    record = EventRecord(1, end, ref, name, text, withdrawn=withdrawn)
    note = flow_annotation(flow, end, peer, STYLE, isolated_by=isolated_by)
    return event_body(record, flow, STYLE, None, annotations={ANNOTATION: note} if annotated else None)


def other_event(text: str, *, pod: str = "web-0", namespace: str = "team-a", **fields: Any) -> dict[str, Any]:
    """What others post for the same reason; ``fields`` replace those that are there."""
    made = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{pod}.17f", "namespace": namespace},
        "involvedObject": {"kind": "Pod", "namespace": namespace, "name": pod},
        "reason": "PacketDrop",
        "message": text,
        "type": "Warning",
        "source": {"component": "kube-iptables-tailer", "host": "worker-4"},
        "firstTimestamp": "2026-11-26T04:00:00Z",
        "lastTimestamp": "2026-11-26T05:00:00Z",
        "count": 2,
    }
    return made | fields


def command(*arguments: object) -> list[str]:
    """The command line of ``kubectl-drops``."""
    # Tests that run in a shell's background inherit an ignored SIGINT, which Python would leave so.
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program += "; from kiptail.cli.drops import main; main()"
    return [sys.executable, "-c", program, *map(str, arguments)]


def variables(**more: str) -> dict[str, str]:
    """The environment of a user's shell."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("KIPTAIL_", "KUBE", "NO_COLOR"))}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "TERM": "xterm"} | more


def run_drops(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=60, check=False, env=variables(**environment)
    )
