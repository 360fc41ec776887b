"""Memory over hours of churn: new flows all the time, and drops of known ones, through a journal that grows.

The journal's clock drives flows and budgets, and here it runs sixty times as fast: ten minutes are ten hours, in which
twenty generations of flows end.
"""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bench.node import memory_of
from bench.programs import BenchError
from bench.report import Row
from tests.apiserver.process import ServerProcess
from tests.support.journald import Fields, export_to_journal, kernel_entry
from tests.support.pods import pod
from tests.support.running import Kiptail

__all__ = ["soak"]

_PODS = [f"10.244.{n // 100}.{1 + n % 100}" for n in range(400)]
#: Drops a second. Of each hundred, one is of a flow that was not there before, as far as budgets allow.
_RATE = 500
#: Seconds of the journal's time in one second.
_SPEED = 60
#: What has to be in memory is there by then, in seconds.
_SETTLED = 120.0

_LINE = (
    "calico-drop: IN=cali1 OUT=eth0 MAC=ee:ee:ee:ee:ee:ee:1e:0a:36:33:00:01:08:00 SRC={} DST={} LEN={} TOS=0x00"
    " PREC=0x00 TTL=63 ID={} DF PROTO=TCP SPT={} DPT={} WINDOW=64240 RES=0x00 SYN URGP=0 "
)


def soak(minutes: float) -> list[Row]:
    """How much anonymous memory grows from minute 2 to the end; raises BenchError when kiptail does not keep up."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        stop = threading.Event()
        writer = threading.Thread(
            target=export_to_journal,
            args=(_drops(stop, minutes), directory / "journal" / "soak.journal"),
            name="journal",
        )
        writer.start()
        try:
            time.sleep(2.0)
            pods = [pod(f"pod-{n}", address, uid=f"uid-{n}") for n, address in enumerate(_PODS)]
            with (
                ServerProcess(directory / "cluster", pods) as server,
                Kiptail(
                    directory,
                    "--kubeconfig", server.kubeconfig, "--journal-directory", directory / "journal",
                    "--state-directory", directory / "state", "--prefix", "calico-drop:", "--node-name", "worker-3",
                    "--repeat-interval", "10s", "--metrics-address", "off", "--since", "-30d", "--expire-after", "30d",
                ) as kiptail,
            ):  # fmt: skip
                kiptail.watch(_SETTLED)
                early, counted = memory_of(kiptail.pid)[0], kiptail.counted
                kiptail.watch(max(0.0, minutes * 60 - _SETTLED))
                late, drops = memory_of(kiptail.pid)[0], kiptail.counted - counted
        finally:
            stop.set()
            writer.join()
    if drops < (minutes * 60 - _SETTLED - 10) * _RATE * 0.9:
        raise BenchError(f"only {drops:,} drops were counted in the soak")
    return [
        Row("soak: RssAnon after 2 min", "MiB", [early]),
        Row(f"soak: growth until minute {minutes:g}, {drops:,} drops", "MiB", [late - early]),
    ]


def _drops(stop: threading.Event, minutes: float) -> Iterator[Fields]:
    draw = random.Random(6)  # noqa: S311 - the same each time
    flows = [(draw.choice(_PODS), draw.choice(_PODS), 8_080)]
    begin, number = time.monotonic(), 0
    # So that it ends at the present.
    first_us = time.time_ns() // 1000 - round((minutes + 1) * 60 * 1_000_000 * _SPEED)
    while not stop.is_set():
        while number < (time.monotonic() - begin) * _RATE:
            number += 1
            if number % 100 == 0:
                flows.append((draw.choice(_PODS), draw.choice(_PODS), draw.randrange(1, 30_000)))
            source, target, port = draw.choice(flows[-200:])
            line = _LINE.format(source, target, 60 + number % 40, number % 65_536, 32_768 + number % 28_000, port)
            passed_us = number * 1_000_000 // _RATE * _SPEED
            yield kernel_entry(line, realtime_us=first_us + passed_us, monotonic_us=1_000_000 + passed_us)
        time.sleep(0.01)
