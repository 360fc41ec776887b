"""A report for programs: JSON, and CSV that a spreadsheet opens without harm (pure)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from kiptail.clock.dates import kubernetes_time
from kiptail.report.ends import End
from kiptail.report.summary import Report
from kiptail.report.tally import Flow
from kiptail.text import one_line

__all__ = ["as_csv", "as_json"]

#: Flows that are written together.
_CHUNK = 1_000
#: What makes a spreadsheet take a cell for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
#: A cell is cut at this many characters.
_CELL_LIMIT = 300

_END_FIELDS = ("address", "namespace", "pod", "workload", "name")
_COLUMNS = (
    *("first", "last", "count", "verdict", "policy", "prefix", "protocol", "port", "icmp_type", "icmp_code", "reply"),
    *(f"{end}_{field}" for end in ("src", "dst") for field in _END_FIELDS),
)
#: Only where it was asked: what would become of the flow, and which policies deny it, or why nobody can say.
_TRIAL = ("with_policies", "why")


def as_json(report: Report) -> Iterator[str]:
    """One JSON object, in pieces; a flow a line. All of it is ASCII, so that no terminal is harmed."""
    head = {"from": _time(report.from_us), "to": _time(report.to_us), "packets": report.packets}
    yield json.dumps(head)[:-1] + ', "flows": ['
    for start in range(0, len(report.flows), _CHUNK):
        lines = (json.dumps(_flow(flow, report)) for flow in report.flows[start : start + _CHUNK])
        yield (",\n" if start else "\n") + ",\n".join(lines)
    yield "\n]}\n" if report.flows else "]}\n"


def as_csv(report: Report) -> Iterator[str]:
    """RFC 4180, in pieces: a line of names, then a flow a line."""
    columns = (*_COLUMNS, *(_TRIAL if report.trial is not None else ()))
    yield _lines([columns])
    for start in range(0, len(report.flows), _CHUNK):
        yield _lines([_cells(flow, report, columns) for flow in report.flows[start : start + _CHUNK]])


def _time(us: int | None) -> str | None:
    return None if us is None else kubernetes_time(us)


def _flow(flow: Flow, report: Report) -> dict[str, Any]:
    one = flow.id
    fields = {
        "src": _end(one.src),
        "dst": _end(one.dst),
        "protocol": one.protocol,
        "port": one.port,
        "icmp_type": one.icmp_type,
        "icmp_code": one.icmp_code,
        "reply": one.reply,
        "prefix": one.prefix,
        "verdict": one.verdict,
        "policy": one.policy,
        "count": flow.count,
        "first": kubernetes_time(flow.first_us),
        "last": kubernetes_time(flow.last_us),
    }
    if report.trial is not None:
        fields |= dict(zip(_TRIAL, report.trial[one], strict=True))
    return fields


def _end(end: End) -> dict[str, str]:
    return {field: getattr(end, field) for field in _END_FIELDS}


def _cells(flow: Flow, report: Report, columns: Sequence[str]) -> list[str]:
    row = _flow(flow, report)
    ends = {f"{end}_{field}": text for end in ("src", "dst") for field, text in row[end].items()}
    row |= ends | {"reply": "yes" if row["reply"] else ""}
    return [_cell(row[column]) for column in columns]


def _cell(value: object) -> str:
    """Text without control characters, and never a formula: the apostrophe is what spreadsheets take for "text"."""
    text = "" if value is None else one_line(str(value), _CELL_LIMIT)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _lines(rows: list[Any]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows(rows)
    return out.getvalue()
