"""What filters make of lines: read either way they count as the same, and nothing is lost or counted twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.config.ignore_tables import filter_of_text, filters_of
from kiptail.flows import counter as counter_module
from kiptail.flows.budget import Limits
from kiptail.flows.counter import MANY, Intake, LineCounter
from kiptail.flows.flow import ENDS, Flow, FlowKey, flow_key
from kiptail.flows.joining import Joining
from kiptail.flows.known_lines import KnownLine, KnownLines, Line, LinesOfUlogd, UnknownLine, understood
from kiptail.flows.ledger import Ledger
from kiptail.flows.left_out import LeaveOut, nothing_left_out
from kiptail.netfilter.parser import PacketDrop, Unparsed, parse
from kiptail.netfilter.prefixes import Prefixes, PrefixRule, Verdict
from kiptail.netfilter.reading import ULOGD, Logged, Untrusted, read
from kiptail.quiet.filters import Filters
from tests.support.clock import own_clock
from tests.support.filters import Judge, first_of

T0 = 1_800_000_000_000_000
PREFIXES = Prefixes(
    [PrefixRule("drop:", Verdict.DROP), PrefixRule("seen:", Verdict.LOG), PrefixRule("by {policy}:", Verdict.REJECT)]
)
LINE = (
    "{prefix} IN=a OUT=b MAC= SRC={src} DST={dst} LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF PROTO=TCP"
    " SPT={sport} DPT={port} WINDOW=64240 RES=0x00 {flags} URGP=0 "
)
LINE_6 = LINE.replace("TOS=0x00 PREC=0x00 TTL=63 ID=1 DF", "TC=0 HOPLIMIT=64 FLOWLBL=0")
PING = LINE.partition("PROTO=")[0] + "PROTO=ICMP TYPE=8 CODE=0 ID=1 SEQ=1 "


def line(
    port: int = 80, *, prefix: str = "drop:", src: str = "10.0.0.1", dst: str = "10.0.0.2", sport: int = 40_000,
    flags: str = "SYN",
) -> str:  # fmt: skip
    form = LINE_6 if ":" in src else LINE
    return form.format(prefix=prefix, src=src, dst=dst, sport=sport, port=port, flags=flags)


def filters(*texts: str) -> LeaveOut:
    return Filters([*map(filter_of_text, texts)]).leave_out


def counted(leave_out: LeaveOut, *lines: Line | str, log_drops: bool = False) -> LineCounter:
    made = LineCounter(
        PREFIXES, Ledger(), own_clock(lambda: T0 / 1e6), expire_after=None, leave_out=leave_out, log_drops=log_drops
    )
    made.count(lines, [T0] * len(lines))
    return made


def flows(lines: LineCounter) -> Counter[tuple[int | None, str]]:
    return Counter({(flow.key.port, flow.key.muted): flow.count for flow in lines._ledger.changes().flows})


def known(text: str, leave_out: LeaveOut) -> KnownLine:
    found = KnownLines(PREFIXES, leave_out=leave_out).wanted(text.encode())
    assert isinstance(found, KnownLine)
    return found


@pytest.mark.parametrize("fast", [True, False], ids=["known", "text"])
@pytest.mark.parametrize("number", [1, MANY, 5 * MANY])
def test_what_keeps_nothing_is_counted_by_its_reason_only(fast: bool, number: int) -> None:
    leave_out = filters("port=80 what=all reason=scanner")
    lines = [line(80), line(81), line(80, prefix="seen:")]
    made = counted(leave_out, *[known(each, leave_out) if fast else each for each in lines] * number)
    assert made.intake == Intake(drops={("drop", "TCP"): number}, ignored={"scanner": 2 * number})
    assert flows(made) == {(81, ""): number}
    assert made.uncommitted == number


@pytest.mark.parametrize("fast", [True, False], ids=["known", "text"])
@pytest.mark.parametrize("number", [1, 5 * MANY])
def test_what_only_makes_no_event_is_counted_as_ever_in_flows_of_its_own(fast: bool, number: int) -> None:
    leave_out = filters("port=80 reason=scanner")
    lines = [line(80), line(81)]
    made = counted(leave_out, *[known(each, leave_out) if fast else each for each in lines] * number)
    assert made.intake == Intake(drops={("drop", "TCP"): 2 * number})
    assert flows(made) == {(80, "scanner"): number, (81, ""): number}


def test_a_line_that_is_left_out_is_logged_only_where_it_counts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "kiptail.drops")
    counted(filters("port=80 what=all", "port=81"), line(80), line(81), log_drops=True)
    assert ['"dst_port": 81' in text for text in caplog.messages] == [True]


@pytest.mark.parametrize("first", ["SYN", "RST"])
def test_resets_are_told_from_requests_to_the_same_port_whichever_was_seen_first(first: str) -> None:
    leave_out = filters("replies what=all")
    lines = KnownLines(PREFIXES, leave_out=leave_out)
    order = [first, "SYN", "RST", "ACK RST", "ACK", "RST", "SYN"]
    said = [lines.wanted(line(80, flags=flags).encode()) for flags in order]
    assert [each.ignored for each in said if isinstance(each, KnownLine)] == [
        "replies" if "RST" in flags else "" for flags in order
    ]


def test_answers_of_a_service_are_replies() -> None:
    leave_out = filters("replies")
    answer = line(40_000, sport=80, flags="ACK SYN")
    assert known(answer, leave_out).key.muted == "replies"
    assert known(line(80, flags="SYN"), leave_out).key.muted == ""


def test_a_flow_has_its_place_in_budgets_and_its_name_whatever_filters_say() -> None:
    drop = parse(line(80))
    assert isinstance(drop, PacketDrop)
    prefix = PREFIXES.match("drop:")
    assert prefix is not None
    key = flow_key(drop, prefix)
    for made in (key, key._replace(here="src"), key._replace(policy="a/b"), key._replace(here="src", policy="a/b")):
        assert made._replace(muted="x").identity(1) == made.identity(1)
    assert len({key.identity(), key._replace(here="src").identity(), key._replace(policy="x").identity()}) == 3


def test_what_is_left_out_is_folded_apart() -> None:
    """So the folded Event of a pod hides nothing that is to be told, and tells nothing that is to be left out."""
    leave_out = filters("src=10.9.0.0/16 reason=scanner")
    made = LineCounter(
        PREFIXES,
        Ledger(limits=Limits(flows_per_address=1)),
        own_clock(lambda: T0 / 1e6),
        expire_after=None,
        leave_out=leave_out,
    )
    lines = [line(port, src=src) for src in ("10.9.0.1", "10.0.0.1") for port in range(1, 30)]
    made.count([*lines, *lines, *[known(each, leave_out) for each in [*lines, *lines]]], [T0] * 4 * len(lines))
    found = made._ledger.changes().flows
    at_target: Counter[str] = Counter()
    for flow in found:
        if "dst" in flow.ends:
            at_target[flow.key.muted] += flow.count
    assert at_target == {"scanner": 4 * 29, "": 4 * 29}
    folded = {flow.key.muted: flow for flow in found if flow.spread is not None and flow.ends == ("dst",)}
    assert folded.keys() == {"scanner", ""}
    assert {flow.spread.peers.count for flow in folded.values() if flow.spread is not None} == {1}


# Lines of NFLOG rules that are joined

K3S = (
    "{prefix} IN=a OUT=b MAC= SRC=10.0.0.1 DST=10.0.0.2 LEN=60 TOS=00 PREC=0x00 TTL=63 ID=7 DF PROTO=TCP"
    " SPT=4 DPT=80 SEQ=9 ACK=0 WINDOW=64240 SYN URGP=0 MARK=0x0"
)


@pytest.mark.parametrize(
    ("text", "ignored", "muted"),
    [("policy=team-a/x what=all reason=p", "p", ""), ("policy=team-a/x reason=p", "", "p"), ("policy=team-a/y", "", ""),
     ("port=80 what=all reason=q", "q", ""), ("verdict=log what=all", "", "")],
)  # fmt: skip
@pytest.mark.parametrize("thorough", [True, False])
def test_a_policy_that_another_line_names_counts(text: str, ignored: str, muted: str, thorough: bool) -> None:
    rules = [PrefixRule("DROP by policy {policy}", Verdict.LOG)]
    prefixes = Prefixes(rules, empty=PrefixRule("NFLOG group 100", Verdict.REJECT))
    leave_out = filters(text)
    lines = LinesOfUlogd(prefixes, paired=True, thorough=thorough, leave_out=leave_out)
    both = [lines.wanted(K3S.format(prefix=prefix).encode()) for prefix in ("DROP by policy team-a/x", "")]
    joined = Joining(leave_out).joined([each for each in both if each is not None], [T0, T0 + 1])
    made = LineCounter(prefixes, Ledger(), own_clock(lambda: T0 / 1e6), expire_after=None, leave_out=leave_out)
    made.count(joined[1:], [T0 + 1])
    assert made.intake.ignored == ({ignored: 1} if ignored else {})
    assert [(flow.key.policy, flow.key.muted) for flow in made._ledger.changes().flows] == (
        [] if ignored else [("team-a/x", muted)]
    )


# Either way of reading, against a judge of its own

TEXTS = [
    *(line(port) for port in (22, 80, 8_080)),
    *(line(port, src="fd00::1", dst="ff02::1") for port in (22, 80)),
    *(line(port, src="10.9.0.7", flags=flags) for port in (80, 443) for flags in ("SYN", "RST", "ACK RST")),
    line(40_000, sport=80, flags="ACK"),
    line(50_000, sport=80, flags="ACK PSH"),
    line(40_000, sport=80, flags="ACK RST"),
    line(80, prefix="seen:"),
    line(80, prefix="by team-a/x:"),
    line(443, prefix="by team-b/y:", dst="255.255.255.255"),
    PING.format(prefix="drop:", src="10.0.0.1", dst="10.0.0.2"),
    *(line(port).replace(" DF ", " FRAG:64 ") for port in (80, 81)),
    "drop: IN=a OUT=b",
    "drop: IN=a OUT=b SRC=10.0.0.1 and so on",
    line(80, prefix="x drop:"),
    line(80, prefix="other:"),
]
TABLES: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "src": st.sampled_from([["10.0.0.0/24"], ["10.9.0.0/16", "fd00::/8"]]),
            "dst": st.sampled_from([["ff02::1/128"], ["10.0.0.2/32"]]),
            "peer": st.sampled_from([["10.9.0.7/32"], ["::/0"]]),
            "port": st.sampled_from([[80], ["1-100"], [443, "8000-9000"]]),
            "protocol": st.sampled_from([["TCP"], ["ICMP"]]),
            "icmp": st.just(["8"]),
            "prefix": st.sampled_from([["drop:"], ["seen:", "by {policy}:"]]),
            "policy": st.sampled_from([["team-a/x"], ["team-*"]]),
            "verdict": st.sampled_from([["drop"], ["reject", "log"]]),
            "reply": st.booleans(),
            "name": st.sampled_from(["replies", "multicast"]),
            "reason": st.sampled_from(["one", "two"]),
            "what": st.sampled_from(["all", "events"]),
        },
    ).filter(lambda table: table.keys() - {"reason", "what"}),
    max_size=4,
)
#: When each line was written, in seconds from the horizon on: some are too old when they are read.
WRITTEN = st.lists(st.tuples(st.sampled_from(TEXTS), st.integers(-2, 4)), max_size=60)


def judged(tables: list[Judge], lines: list[tuple[str, int]]) -> tuple[Intake, Counter[tuple[FlowKey, str]]]:
    """By the thorough parser and a judge that compares each filter: what is counted, and drops by flow and reason."""
    intake, drops = Intake(), Counter[tuple[FlowKey, str]]()
    for text, second in lines:
        logged = read(text, PREFIXES)
        if logged is None:
            continue
        if isinstance(logged, Untrusted):
            intake.untrusted += 1
            intake.untrusted_why = logged.reason
        elif second < 0:
            intake.expired += 1
        elif isinstance(logged.packet, Unparsed):
            intake.unparsed += 1
            intake.unparsed_why = logged.packet.reason
        else:
            packet, prefix = logged.packet, logged.prefix
            key, reset = flow_key(packet, prefix), packet.protocol == "TCP" and " RST " in text
            said = first_of(tables, key, reset=reset)
            if said is not None and said[1]:
                intake.ignored[said[0]] = intake.ignored.get(said[0], 0) + 1
                continue
            kind = (prefix.verdict.value, packet.protocol)
            intake.drops[kind] = intake.drops.get(kind, 0) + 1
            if prefix.policy:
                named = (prefix.policy, prefix.verdict.value)
                intake.policies[named] = intake.policies.get(named, 0) + 1
            if prefix.verdict.is_loss:
                drops[key, said[0] if said else ""] += 1
    return intake, drops


@given(TABLES, WRITTEN, st.lists(st.booleans(), min_size=60, max_size=60))
def test_counted_and_ignored_and_expired_are_what_was_read(
    tables: list[dict[str, Any]], lines: list[tuple[str, int]], by_text: list[bool]
) -> None:
    leave_out = Filters(filters_of(tables, "test")).leave_out
    intake, drops = judged(tables, lines)
    for many in (1, MANY, 1_000):
        known_lines = KnownLines(PREFIXES, leave_out=leave_out)
        read_now = [known_lines.wanted(text.encode()) for text, _ in lines]
        given_out = [
            (said if isinstance(said, KnownLine) and not thorough else text, T0 + second * 1_000_000)
            for (text, second), said, thorough in zip(lines, read_now, by_text, strict=False)
            if said is not False
        ]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(counter_module, "MANY", many)
            made = LineCounter(PREFIXES, Ledger(), own_clock(lambda: T0 / 1e6), expire_after=0.0, leave_out=leave_out)
            made.count([each for each, _ in given_out], [time_us for _, time_us in given_out])
        assert _without_why(made.intake) == _without_why(intake)
        told = made.intake
        counted_lines = sum(told.drops.values()) + sum(told.ignored.values())
        passed_over = told.expired + told.unparsed + told.untrusted
        assert counted_lines + passed_over == sum(read(text, PREFIXES) is not None for text, _ in lines)
        assert _counted_once(made._ledger.changes().flows) == drops


def _without_why(intake: Intake) -> Intake:
    # Which is the latest, depends on the order within a second.
    intake.unparsed_why = intake.untrusted_why = ""
    return intake


def _counted_once(found: tuple[Flow, ...]) -> Counter[tuple[FlowKey, str]]:
    return Counter({(flow.key._replace(muted=""), flow.key.muted): flow.count for flow in found if flow.ends == ENDS})


@given(TABLES, st.lists(st.sampled_from(TEXTS), max_size=30))
def test_a_known_line_says_what_the_thorough_reading_says(tables: list[dict[str, Any]], texts: list[str]) -> None:
    leave_out = Filters(filters_of(tables, "test")).leave_out
    lines = KnownLines(PREFIXES, leave_out=leave_out)
    for text in [*texts, *texts]:
        said = lines.wanted(text.encode())
        if isinstance(said, KnownLine):
            thorough = understood(text, PREFIXES, leave_out=leave_out)
            assert thorough is not None
            assert (said.key, said.kind, said.counted, said.ignored) == (
                thorough.key,
                thorough.kind,
                thorough.counted,
                thorough.ignored,
            )


def test_lines_of_ulogd_are_left_out_too() -> None:
    prefixes = Prefixes([PrefixRule("drop:")])
    text = K3S.format(prefix="drop:")
    for leave_out, expected in ((filters("port=80 what=all reason=x"), "x"), (nothing_left_out, "")):
        found = LinesOfUlogd(prefixes, leave_out=leave_out).wanted(text.encode())
        assert isinstance(found, KnownLine)
        assert found.ignored == expected
        unknown = UnknownLine(text, prefixes)
        assert isinstance(unknown.read(), Logged)
        made = counted(leave_out, unknown)
        assert made.intake.ignored == ({"x": 1} if expected else {})
        assert read(text, prefixes, ULOGD) is not None
