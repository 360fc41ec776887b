"""Metrics of a running kiptail, against their document, the alerts, the dashboard and promtool."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from kiptail.journal.entry import STARTED_MESSAGE_ID
from tests.apiserver import ApiServer
from tests.support.journald import export_to_journal, kernel_entry
from tests.support.pods import pod
from tests.support.running import ROOT, Kiptail
from tests.support.scrape import free_port, get, names

DOCUMENT = ROOT / "docs" / "metrics.md"
ALERTS = ROOT / "packaging" / "prometheus" / "alerts.yaml"
DASHBOARD = ROOT / "packaging" / "grafana" / "kiptail.json"
LINE = (
    "{prefix} IN=a OUT=b SRC={src} DST={dst} LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 PROTO=TCP SPT=40000 DPT={port}"
    " WINDOW=1 RES=0x00 SYN URGP=0 "
)


def promtool() -> str:
    found = shutil.which("promtool", path=f"{os.environ['PATH']}:{ROOT / '.venv' / 'tools'}")
    if found is None:
        pytest.skip("promtool is not installed: tools/prepare live")
    return found


def documented() -> dict[str, set[str]]:
    """Each metric in the tables, with its labels."""
    found = {}
    for line in DOCUMENT.read_text().splitlines():
        row = re.match(r"\| `(kiptail_[a-z_]+)` \| (counter|gauge|histogram) \| (.+?) \| .+ \|$", line)
        if row:
            found[row[1]] = set(re.findall(r"`([a-z_]+)`", row[3]))
    return found


def started(server: ApiServer, directory: Path, port: int) -> Kiptail:
    now = time.time_ns() // 1000
    lines = [LINE.format(prefix="x:", src="192.0.2.1", dst="10.0.0.2", port=80)]
    lines += [LINE.format(prefix="x:", src="10.0.0.1", dst="10.0.0.2", port=port_) for port_ in range(30)]
    # What filters leave out, with and without a trace.
    lines += [LINE.format(prefix="x:", src="192.0.2.9", dst="10.0.0.2", port=port_) for port_ in (7, 9, 9)]
    # Packets that passed, by policies whose names have characters that labels escape.
    lines += [LINE.format(prefix=f'accept by "a\\b{name}":', src="10.0.0.1", dst="10.0.0.2", port=80) for name in "xyy"]
    entries = (kernel_entry(line, realtime_us=now + n, monotonic_us=1_000 + n) for n, line in enumerate(lines))
    started_unit = kernel_entry(
        "Started kiptail-ulogd@100.service", realtime_us=now, monotonic_us=999, _TRANSPORT="journal", _PID=1,
        UNIT="kiptail-ulogd@100.service", MESSAGE_ID=STARTED_MESSAGE_ID, JOB_RESULT="done",
    )  # fmt: skip
    export_to_journal([started_unit, *entries], directory / "journal" / "system.journal")
    return Kiptail(
        directory,
        "--kubeconfig", server.kubeconfig(directory / "kubeconfig"), "--journal-directory", directory / "journal",
        "--state-directory", directory / "state", "--metrics-address", f"127.0.0.1:{port}",
        "--prefix", "x:", "--prefix", "{verdict} by {policy}:", "--node-name", "worker-3",
        "--ignore", "src=192.0.2.9 port=7 reason=quiet", "--ignore", "src=192.0.2.9 port=9 what=all reason=gone",
        "--nflog-group", "100",
    )  # fmt: skip


@pytest.fixture
def exposition(server: ApiServer, tmp_path: Path) -> str:
    """What a kiptail exposes that has told of drops between pods and from a stranger."""
    server.pods.put(pod("client", "10.0.0.1"))
    server.pods.put(pod("web-0", "10.0.0.2", namespace="team-b"))
    port = free_port()
    with started(server, tmp_path, port) as kiptail:
        kiptail.wait_for(lambda: get(port)[1].count("kiptail_pod_drops_total{") >= 5, "drops by namespace")
        kiptail.wait_for(lambda: "kiptail_events_untold 0.0" in get(port)[1], "all told")
        up = 'kiptail_nflog_unit_up{unit="kiptail-ulogd@100.service"} 1.0'
        kiptail.wait_for(lambda: up in get(port)[1], "whether ulogd runs")
        assert get(port, "/-/ready") == (200, "ready\n")
        assert get(port, "/healthz") == (200, "ready\n")
        assert get(port, "/other")[0] == 404
        text = get(port)[1]
        kiptail.stop()
    return text


def test_the_document_names_every_metric_and_no_other(exposition: str) -> None:
    exposed = {name: labels for name, labels in names(exposition).items() if not name.endswith("_created")}
    assert set(exposed) == set(documented())
    assert {n: labels - {"le"} for n, labels in exposed.items() if labels} == {
        n: labels for n, labels in documented().items() if exposed[n]
    }


def test_drops_are_told_by_namespace(exposition: str) -> None:
    def value(**labels: str) -> float:
        total = 0.0
        for line in exposition.splitlines():
            if line.startswith("kiptail_pod_drops_total{") and all(f'{k}="{v}"' in line for k, v in labels.items()):
                total += float(line.rpartition(" ")[2])
        return total

    assert value(direction="sent", namespace="team-a") == 30
    assert value(direction="received", namespace="team-b") == 32
    assert value(direction="received", namespace="team-b", peer_namespace="external") == 1
    assert value(peer_namespace="several") > 0, "the flows beyond the budget"
    assert 'kiptail_api_requests_total{code="201",verb="create"}' in exposition
    assert 'kiptail_api_request_duration_seconds_bucket{le="0.005",verb="create"}' in exposition


def test_packets_are_counted_by_verdict_and_by_policy(exposition: str) -> None:
    for line in (
        'kiptail_drops_total{protocol="TCP",verdict="drop"} 32.0',
        'kiptail_drops_muted_total{reason="quiet"} 1.0',
        'kiptail_drops_ignored_total{reason="gone"} 2.0',
        'kiptail_drops_total{protocol="TCP",verdict="accept"} 3.0',
        r'kiptail_policy_drops_total{policy="\"a\\bx\"",verdict="accept"} 1.0',
        r'kiptail_policy_drops_total{policy="\"a\\by\"",verdict="accept"} 2.0',
    ):
        assert line in exposition.splitlines()


@pytest.mark.live
def test_promtool_likes_the_output(exposition: str) -> None:
    done = subprocess.run(
        [promtool(), "check", "metrics"], input=exposition, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.live
def test_promtool_likes_the_alerts() -> None:
    done = subprocess.run(
        [promtool(), "check", "rules", ALERTS], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "SUCCESS" in done.stdout


@pytest.mark.live
def test_alerts_fire(tmp_path: Path) -> None:
    """promtool's own test of rules: a right that is missing, and a node that is well."""
    series = {
        'kiptail_event_writes_total{instance="n1",result="forbidden"}': "0+1x60",
        'kiptail_event_writes_total{instance="n2",result="forbidden"}': "0x60",
        'kiptail_token_unrenewable{instance="n1"}': "1x60",
        'kiptail_token_unrenewable{instance="n2"}': "0x60",
        'kiptail_events_untold{instance="n1"}': "7x60",
        'kiptail_events_untold{instance="n2"}': "7x60",
        'kiptail_event_writes_total{instance="n2",result="ok"}': "0+5x60",
    }
    firing = {"exp_labels": {"severity": "warning", "instance": "n1", "result": "forbidden"}}
    renewal = {"exp_labels": {"severity": "warning", "instance": "n1"}}
    alerts = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]

    def notes(name: str) -> dict[str, str]:
        (rule,) = [rule for rule in alerts if rule["alert"] == name]
        return {key: text.replace("{{ $labels.instance }}", "n1") for key, text in rule["annotations"].items()}

    undelivered = {"exp_labels": {"severity": "warning", "instance": "n1"}}
    undelivered["exp_annotations"] = {
        key: text.replace("{{ $value }}", "7") for key, text in notes("KiptailEventsNotDelivered").items()
    }
    firing["exp_annotations"] = notes("KiptailForbidden")
    renewal["exp_annotations"] = notes("KiptailTokenNotRenewed")
    document = {
        "rule_files": [str(ALERTS)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "alert_rule_test": [
                    {"eval_time": "30m", "alertname": "KiptailForbidden", "exp_alerts": [firing]},
                    {"eval_time": "30m", "alertname": "KiptailTokenNotRenewed", "exp_alerts": [renewal]},
                    {"eval_time": "40m", "alertname": "KiptailEventsNotDelivered", "exp_alerts": [undelivered]},
                    {"eval_time": "30m", "alertname": "KiptailEventsGivenUp", "exp_alerts": []},
                ],
            }
        ],
    }
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump(document))
    done = subprocess.run([promtool(), "test", "rules", path], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", [ALERTS, DASHBOARD], ids=["alerts", "dashboard"])
def test_only_metrics_that_there_are_are_asked_for(path: Path) -> None:
    known = documented()
    if path is DASHBOARD:
        panels = json.loads(path.read_text())["panels"]
        expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    else:
        expressions = [rule["expr"] for rule in yaml.safe_load(path.read_text())["groups"][0]["rules"]]
    for expression in expressions:
        for name in re.findall(r"kiptail_[a-z_]+", expression):
            assert name.removesuffix("_bucket") in known, expression


def test_not_ready_says_why(server: ApiServer, tmp_path: Path) -> None:
    port = free_port()
    fault = server.faults.status(500, path="/api/v1/pods", message="etcd is away")
    with started(server, tmp_path, port) as kiptail:
        kiptail.wait_for(lambda: "pods:" in get(port, "/-/ready")[1], "an obstacle")
        status, text = get(port, "/-/ready")
        assert (status, text.splitlines()[0].startswith("not ready: pods: ")) == (503, True), text
        fault.remove()
        kiptail.wait_for(lambda: get(port, "/-/ready") == (200, "ready\n"), "ready", timeout=30)
        kiptail.stop()
