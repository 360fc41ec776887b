"""What can be scraped."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator

import pytest

from kiptail.daemon.metrics import Metrics, Reading
from kiptail.daemon.scrapes import MetricsServer


def readings() -> Iterator[Reading]:
    yield Reading("kiptail_drops", "Drops.", 3, {"verdict": "drop"})
    yield Reading("kiptail_drops", "Drops.", 2, {"verdict": "reject"})
    yield Reading("kiptail_index_ready", "Ready.", True, counter=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_values_are_served_and_the_port_is_given_back(host: str) -> None:
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        port = probe.getsockname()[1]
    metrics = Metrics()
    metrics.read_from(readings)
    metrics.event_written("create", "ok")
    server = MetricsServer(metrics.registry, (host, port))
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"
    with urllib.request.urlopen(url, timeout=5) as answer:
        text = answer.read().decode()
    server.close()
    assert 'kiptail_drops_total{verdict="drop"} 3.0' in text
    assert 'kiptail_drops_total{verdict="reject"} 2.0' in text
    assert "kiptail_index_ready 1.0" in text
    assert 'kiptail_event_writes_total{operation="create",result="ok"} 1.0' in text
    assert 'kiptail_build_info{version="' in text
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=1)


def test_an_address_that_is_taken_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        MetricsServer(Metrics().registry, ("127.0.0.1", taken.getsockname()[1]))


def test_whatever_answers_there_is_a_bounded_number_of_label_sets() -> None:
    metrics = Metrics()
    for code in range(100, 1_000):
        metrics.request_made("list", str(code), 0.1)
    metrics.request_made("list", "error", 0.1)
    codes = [
        sample.labels["code"]
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "kiptail_api_requests_total"
    ]
    assert {"200", "404", "429", "503", "error", "other"} <= set(codes)
    assert len(codes) < 70
