"""Take the pictures of docs/report.md anew: ``make pictures``.

A made-up day of a node, packet by packet, is written into a journal; ``kiptail report`` makes a page of it; and
Chromium shows that as readers with large and small windows do.
"""

from __future__ import annotations

import json
import random
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.browser import Browser, browser
from tests.support.journald import Fields, export_to_journal, kernel_entry
from tests.support.pods import pod

__all__ = ["main"]

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs/pictures"
MINUTE_US = 60_000_000
#: 2026-01-13 00:00 UTC, and how long the machine is up by then.
START_US, UPTIME_US = 1_768_262_400_000_000, 86_400_000_000

#: Pods of the day by address: namespace, and name.
PODS = {
    **{f"10.244.1.{10 + n}": ("shop", f"frontend-{n}") for n in range(3)},
    "10.244.1.20": ("shop", "cart-0"),
    "10.244.1.21": ("shop", "search-0"),
    **{f"10.244.2.{10 + n}": ("payments", f"api-{n}") for n in range(2)},
    "10.244.2.20": ("payments", "ledger-0"),
    **{f"10.244.3.{10 + n}": ("data", f"postgres-{n}") for n in range(2)},
    "10.244.3.20": ("data", "cache-0"),
    "10.244.4.10": ("batch", "report-28f1"),
    "10.244.5.10": ("monitoring", "prometheus-0"),
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """Packets that are lost for some time."""

    sources: Sequence[str]
    targets: Sequence[str]
    ports: Sequence[int]
    policy: str
    #: Minutes of the day.
    begin: int
    end: int
    #: Packets a minute, at the height of it.
    most: float
    verdict: str = "drop"


def _named(namespace: str, name: str) -> list[str]:
    return [address for address, pod in PODS.items() if pod[0] == namespace and pod[1].startswith(name)]


DAY = (
    Trouble(_named("monitoring", "prom"), [*_named("data", ""), *_named("payments", "")], [9_187, 9_100],
            "data/default-deny", 0, 1_440, 0.8),
    Trouble(_named("shop", "frontend"), _named("payments", "api"), [8_443], "payments/default-deny", 545, 655, 60),
    Trouble(_named("shop", "cart"), ["203.0.113.9"], [443], "shop/egress", 840, 1_000, 14, "reject"),
    Trouble(_named("payments", "ledger"), _named("data", "postgres"), [5_432], "data/postgres", 560, 700, 18),
    Trouble(["198.51.100.77"], _named("shop", "frontend"), [22, 23, 3_389, 5_900], "shop/default-deny", 180, 215, 24),
    Trouble(_named("shop", "search"), _named("data", "cache"), [6_379], "data/cache", 1_080, 1_320, 9),
    *(Trouble(_named("batch", ""), _named("data", "postgres"), [5_432], "data/postgres", at, at + 6, 12, "reject")
      for at in range(0, 1_440, 120)),
)  # fmt: skip


def _packets(chance: random.Random) -> Iterator[tuple[int, str]]:
    """When each packet was lost, in µs since the day began, and what the kernel logged."""
    for trouble in DAY:
        for minute in range(trouble.begin, trouble.end):
            # It rises soon and falls slowly.
            part = (minute - trouble.begin) / (trouble.end - trouble.begin)
            rate = trouble.most * min(1.0, 6 * part + 0.2) * (1.15 - part) * chance.uniform(0.6, 1.1)
            for _ in range(int(rate + chance.random())):
                src, dst = chance.choice(trouble.sources), chance.choice(trouble.targets)
                yield (
                    minute * MINUTE_US + chance.randrange(MINUTE_US),
                    f"np-{trouble.verdict} {trouble.policy}: IN=cali1 OUT=eth0"
                    f" MAC=ee:ee:ee:ee:ee:ee:1e:0a:36:33:01:02:08:00 SRC={src} DST={dst} LEN=60 TOS=0x00 PREC=0x00"
                    f" TTL=63 ID={chance.randrange(65_536)} DF PROTO=TCP SPT={chance.randrange(32_768, 60_000)}"
                    f" DPT={chance.choice(trouble.ports)} WINDOW=64240 RES=0x00 SYN URGP=0 ",
                )


def _entries() -> Iterator[Fields]:
    for at_us, message in sorted(_packets(random.Random(1))):  # noqa: S311 - the same day each time
        yield kernel_entry(message, realtime_us=START_US + at_us, monotonic_us=UPTIME_US + at_us)


def _page(directory: Path) -> Path:
    """The report of that day."""
    journal, pods, page = directory / "day.journal", directory / "pods.json", directory / "report.html"
    export_to_journal(_entries(), journal)
    items = [
        pod(name, address, namespace=namespace, uid=f"u-{name}", start="2026-01-12T00:00:00Z")
        for address, (namespace, name) in PODS.items()
    ]
    pods.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    kiptail = [sys.executable, "-c", "from kiptail.cli.main import main; main()", "report", "--config", "/dev/null"]
    options: list[str | Path] = [
        "--journal-file",
        journal,
        "--pods",
        pods,
        "--prefix",
        "np-{verdict} {policy}:",
        "--output",
        "html",
    ]
    period = ["--since", "2026-01-13T00:00:00Z", "--until", "2026-01-14T00:00:00Z"]
    subprocess.run(  # noqa: S603 - kiptail itself
        [*kiptail, *options, *period, "--out", page], check=True, cwd=ROOT, timeout=120
    )
    return page


def _part(tab: Browser, begin: float, end: float) -> None:
    """Drag over these parts of the bars, and wait until the numbers are those of that time."""
    left, top, width = tab.run(
        "(b => [b.x, b.y + 20, b.width])(document.querySelector('.timeline svg').getBoundingClientRect())"
    )
    tab.drag((left + begin * width, top), (left + end * width, top))
    tab.wait_for("document.documentElement.classList.contains('part')")


def _smaller(png: bytes) -> bytes:
    """The same picture, packed as well as it can be."""
    chunks, data, at = [], b"", 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        if kind == b"IDAT":
            data += body
        elif kind in {b"IHDR", b"IEND"}:
            chunks.append((kind, body))
        at += 12 + length
    head, last = chunks
    chunks = [head, (b"IDAT", zlib.compress(zlib.decompress(data), 9)), last]
    return png[:8] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, browser(Path(scratch) / "profile") as tab:
        page = _page(Path(scratch))

        def take(name: str) -> None:
            path = PICTURES / f"{name}.png"
            path.write_bytes(_smaller(tab.picture()))
            sys.stdout.write(f"==> docs/pictures/{path.name}: {path.stat().st_size // 1_024} KiB\n")

        tab.size(1_280, 1_000)
        tab.scheme("light")
        tab.open(page)
        take("report")
        # The two hours in which a change of the policies went wrong, and what a cell of the matrix opens to.
        _part(tab, 9.1 / 24, 11 / 24)
        tab.run("document.querySelector('.matrix a:not([hidden])').click()")
        tab.run("document.activeElement.blur()")
        tab.run("scrollTo(0, document.querySelector('.timeline').offsetTop - 80)")
        take("report-part")
        tab.size(390, 844)
        tab.scheme("dark")
        tab.open(page)
        take("report-phone")


if __name__ == "__main__":
    main()
