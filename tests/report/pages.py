"""A report with much in it, for tests of the page."""

from __future__ import annotations

from kiptail.flows.flow import FlowKey
from kiptail.pods.snapshot import Collector, SnapshotIndex
from kiptail.report.ends import Ends
from kiptail.report.summary import Report, report_of
from kiptail.report.tally import Period, Tally
from tests.support.pods import pod

__all__ = ["HOSTILE", "busy"]

SECOND = 1_000_000
START = 1_767_225_600 * SECOND + 3_600 * SECOND
#: A policy's name, as whoever writes the log line can choose it.
HOSTILE = "=1+1</script><script>wrong = 1</script><img src=http://192.0.2.1/z onerror=wrong=2>{{7*7}}\"'&"


def busy() -> Report:
    """Packets of ten minutes between the pods of two namespaces and a stranger, some under a hostile policy."""
    collector = Collector()
    for n in range(5):
        collector.add(pod(f"web-{n}", f"10.0.0.{n}", uid=f"a{n}"), "Pod")
        collector.add(pod(f"db-{n}", f"10.0.1.{n}", uid=f"b{n}", namespace="team-with-quite-a-long-name"), "Pod")
    snapshot = collector.snapshot()
    tally = Tally(Ends(SnapshotIndex(snapshot, now_us=START).owners, snapshot.workloads), Period())
    ends = [f"10.0.{side}.{n}" for side in range(2) for n in range(5)] + ["192.0.2.7"]
    for at, src in enumerate(ends):
        for n, dst in enumerate(ends):
            policy = HOSTILE if (at + n) % 3 == 0 else "team-a/default-deny"
            key = FlowKey(
                src,
                dst,
                "TCP",
                (443, 80, 5432)[n % 3],
                None,
                None,
                reply=False,
                prefix="p:",
                verdict="drop",
                policy=policy,
            )
            tally.add(key, [START + (60 * at + step) * SECOND for step in range(1 + (at * n) % 40)])
    return report_of(tally, ["7 lines with <b>a prefix</b> could not be read"])
