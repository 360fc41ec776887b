"""A report with much in it, for tests of the page."""

from __future__ import annotations

from collections.abc import Iterator

from kiptail.flows.flow import FlowKey
from kiptail.pods.snapshot import Collector, SnapshotIndex
from kiptail.report.ends import End, Ends
from kiptail.report.summary import Report, report_of
from kiptail.report.tally import Period, Tally
from tests.support.pods import pod

__all__ = ["HOSTILE", "STRANGER", "Named", "busy", "name_of", "traffic", "unpacked"]

SECOND = 1_000_000
START = 1_767_225_600 * SECOND + 3_600 * SECOND
#: A policy's name, as whoever writes the log line can choose it.
HOSTILE = "=1+1</script><script>wrong = 1</script><img src=http://192.0.2.1/z onerror=wrong=2>{{7*7}}\"'&"
STRANGER = "192.0.2.7"
#: Namespaces of the pods.
SPACES = ("team-a", "team-with-quite-a-long-name")


def traffic() -> Iterator[tuple[FlowKey, list[int]]]:
    """Packets of ten minutes between ten pods and a stranger, some under a hostile policy: flows, and their times."""
    ends = [f"10.0.{side}.{n}" for side in range(2) for n in range(5)] + [STRANGER]
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
                verdict="drop" if n else "reject",
                policy=policy,
            )
            yield key, [START + (60 * at + step) * SECOND for step in range(1 + (at * n) % 40)]


def name_of(address: str) -> str:
    """Who has it in :func:`busy`."""
    if address == STRANGER:
        return address
    side, n = address.split(".")[2:]
    return f"{SPACES[int(side)]}/{('web', 'db')[int(side)]}-{n}"


class Named(Ends):
    """Whose every address has these names: as whoever answers for DNS, or writes a record, can have chosen them."""

    def __init__(self, text: str) -> None:
        super().__init__(None, {})
        self.text = text

    def at(self, address: str, at_us: int) -> End:
        return End(address, self.text, self.text, self.text, self.text)


def busy() -> Report:
    """That traffic, with the pods of two namespaces."""
    collector = Collector()
    for side, kind in enumerate(("web", "db")):
        for n in range(5):
            name = f"{kind}-{n}"
            collector.add(pod(name, f"10.0.{side}.{n}", uid=name, namespace=SPACES[side]), "Pod")
    snapshot = collector.snapshot()
    tally = Tally(Ends(SnapshotIndex(snapshot, now_us=START).owners, snapshot.workloads), Period())
    for key, times_us in traffic():
        tally.add(key, times_us)
    return report_of(tally, ["7 lines with <b>a prefix</b> could not be read"])


def unpacked(text: str) -> dict[int, int]:
    """What ``kiptail.report.timeline.packed`` wrote, as its words say it is read."""
    counts: dict[int, int] = {}
    at = 0
    for word in text.split():
        if word.startswith("-"):
            at += int(word[1:], 36)
        else:
            counts[at] = int(word, 36)
            at += 1
    return counts
