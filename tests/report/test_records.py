"""Reports for programs."""

from __future__ import annotations

import csv
import io
import json

from hypothesis import given
from hypothesis import strategies as st

from kiptail.report.ends import End
from kiptail.report.moments import Moments
from kiptail.report.records import as_csv, as_json
from kiptail.report.summary import Report
from kiptail.report.tally import Bars, Flow, FlowId

SECOND = 1_000_000
WEB = End("10.0.0.2", "team-a", "web-0", "sts/web")
FORMULA = '=HYPERLINK("http://evil.example/";"open")'


def flow(*, src: End | None = None, policy: str = "", count: int = 1, protocol: str = "TCP") -> Flow:
    one = FlowId(src or End("10.0.0.1"), WEB, protocol, 80, None, None, False, "drop:", "drop", policy)
    return Flow(one, count, 1_767_225_600 * SECOND, 1_767_225_609 * SECOND)


def report(*flows: Flow) -> Report:
    times = (flows[0].first_us, flows[0].last_us) if flows else (None, None)
    return Report(*times, sum(one.count for one in flows), flows, Bars(), Moments(), ())


def test_json_is_as_the_command_line_promises() -> None:
    made = json.loads("".join(as_json(report(flow(policy="team-a/deny", count=7)))))
    assert made == {
        "from": "2026-01-01T00:00:00Z",
        "to": "2026-01-01T00:00:09Z",
        "packets": 7,
        "flows": [
            {
                "src": {"address": "10.0.0.1", "namespace": "", "pod": "", "workload": "", "name": ""},
                "dst": {
                    "address": "10.0.0.2",
                    "namespace": "team-a",
                    "pod": "web-0",
                    "workload": "sts/web",
                    "name": "",
                },
                "protocol": "TCP",
                "port": 80,
                "icmp_type": None,
                "icmp_code": None,
                "reply": False,
                "prefix": "drop:",
                "verdict": "drop",
                "policy": "team-a/deny",
                "count": 7,
                "first": "2026-01-01T00:00:00Z",
                "last": "2026-01-01T00:00:09Z",
            }
        ],
    }


def test_nothing_is_a_report_too() -> None:
    assert json.loads("".join(as_json(report()))) == {"from": None, "to": None, "packets": 0, "flows": []}
    assert "".join(as_csv(report())).count("\r\n") == 1


def test_many_flows_are_one_document() -> None:
    flows = [flow(count=n) for n in range(2_500)]
    assert len(json.loads("".join(as_json(report(*flows))))["flows"]) == 2_500
    assert len(list(csv.reader(io.StringIO("".join(as_csv(report(*flows))))))) == 2_501


def test_csv_has_a_row_for_each_flow() -> None:
    text = "".join(as_csv(report(flow(policy='a "policy", or none'))))
    assert text.replace("\r\n", "").isprintable()
    names, row = csv.reader(io.StringIO(text))
    cells = dict(zip(names, row, strict=True))
    assert (cells["src_address"], cells["dst_pod"], cells["dst_workload"]) == ("10.0.0.1", "web-0", "sts/web")
    assert (cells["policy"], cells["port"], cells["icmp_type"], cells["reply"]) == ('a "policy", or none', "80", "", "")


def test_no_cell_is_a_formula() -> None:
    for text in (FORMULA, "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1"):
        names, row = csv.reader(io.StringIO("".join(as_csv(report(flow(src=End(text, name=text), policy=text))))))
        for name in ("policy", "src_name", "src_address"):
            assert row[names.index(name)][0] == "'"


@given(st.text(max_size=400))
def test_any_text_stays_text(text: str) -> None:
    made = report(flow(src=End("10.0.0.1", name=text), policy=text, protocol=text))
    document = "".join(as_json(made))
    assert document.isascii()
    assert json.loads(document)["flows"][0]["policy"] == text
    table = "".join(as_csv(made))
    assert table.replace("\r\n", "").isprintable()
    names, row = csv.reader(io.StringIO(table, newline=""))
    assert len(names) == len(row)
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row)
