"""Policies and labels that are asked for: what that costs a server, and what comes of answers and of their lack."""

from __future__ import annotations

import gc
import json
import logging
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kiptail.clock.pacing import TokenBucket
from kiptail.errors import ApiError
from kiptail.kube.api import KubeApi
from kiptail.policies import asker as asker_module
from kiptail.policies import requests
from kiptail.policies.asker import Asker, Missing
from kiptail.policies.evaluate import Rules
from tests.apiserver import ApiServer, Request
from tests.support.policies import namespace, policy

USER = "kiptail"


class Place:
    """A server with policies, and somebody who asks it."""

    def __init__(self, server: ApiServer, directory: Path) -> None:
        self.server = server
        server.grant(USER, "list", "networkpolicies", group="networking.k8s.io")
        server.grant(USER, "get", "namespaces")
        self.api = KubeApi.from_kubeconfig(server.kubeconfig(directory / "k", token=server.add_user(USER)))
        self.answers = threading.Semaphore(0)
        self.asker = Asker(self.api, on_answer=self.answers.release, how_to_grant=lambda verb, what: f"grant {verb}")

    def rules(self, name: str) -> Rules | Missing:
        """What comes of the question in the end."""
        found = self.asker.rules(name)
        while found is Missing.AWAITED:
            assert self.answers.acquire(timeout=5)
            found = self.asker.rules(name)
        return found

    def labels(self, name: str) -> Any:
        found = self.asker.labels(name)
        while found is Missing.AWAITED:
            assert self.answers.acquire(timeout=5)
            found = self.asker.labels(name)
        return found

    def asked(self) -> list[Request]:
        return self.server.requests("GET", user=USER)

    def names(self, name: str) -> list[str]:
        found = self.rules(name)
        assert isinstance(found, Rules)
        return [each.name for each in found.policies(name)]


@pytest.fixture
def place(server: ApiServer, tmp_path: Path) -> Iterator[Place]:
    made = Place(server, tmp_path)
    yield made
    made.asker.close()
    made.api.close()


def test_an_answer_is_kept_for_all_who_ask(place: Place) -> None:
    place.server.network_policies.put(policy("b"))
    place.server.network_policies.put(policy("a"))
    place.server.network_policies.put(policy("other", namespace="team-b"))
    place.server.namespaces.put(namespace("team-a", team="a"))
    assert place.asker.rules("team-a") is Missing.AWAITED
    assert place.names("team-a") == ["a", "b"]
    assert place.labels("team-a")["team"] == "a"
    for _ in range(100):
        place.rules("team-a")
        place.labels("team-a")
    (listed, got) = place.asked()
    assert listed.path == "/apis/networking.k8s.io/v1/namespaces/team-a/networkpolicies"
    assert listed.query == {"limit": "500", "resourceVersion": "0"}
    assert got.path == "/api/v1/namespaces/team-a"
    assert place.asker.requests == {("networkpolicies", "answered"): 1, ("namespaces", "answered"): 1}


def test_one_question_at_a_time_is_asked_once(place: Place) -> None:
    with place.server.faults.delay(0.3):
        for _ in range(50):
            assert place.asker.rules("team-a") is Missing.AWAITED
            assert place.asker.rules("team-b") is Missing.AWAITED
        assert place.names("team-b") == []
    assert len(place.asked()) == 2
    first, second = place.asked()
    assert second.time - first.time > 0.29


def test_what_is_old_is_asked_for_anew(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asker_module, "KEPT", 0.2)
    place.asker = Asker(place.api, on_answer=place.answers.release, how_to_grant=lambda verb, what: "")
    place.server.network_policies.put(policy("a"))
    assert place.names("team-a") == ["a"]
    place.server.network_policies.delete("a", namespace="team-a")
    assert place.names("team-a") == ["a"], "for a while"
    time.sleep(0.25)
    assert place.names("team-a") == []


def test_a_missing_right_is_logged_once_and_tried_again_later(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(asker_module, "KEPT", 0.3)
    place.server.revoke(USER, "list", "networkpolicies")
    for name in ("team-a", "team-b", "team-c"):
        assert place.rules(name) is Missing.REFUSED
    assert len(place.asked()) == 1
    time.sleep(0.35)
    assert place.rules("team-a") is Missing.REFUSED
    assert len(place.asked()) == 2
    (line,) = caplog.messages
    assert line.startswith("Events do not say which NetworkPolicies are in the way: cannot list networkpolicies")
    assert line.endswith("; grant list")
    assert place.labels("team-a") != Missing.REFUSED, "that is another right"
    place.server.grant(USER, "list", "networkpolicies", group="networking.k8s.io")
    time.sleep(0.35)
    assert place.names("team-a") == []
    assert caplog.messages[1:] == ["networkpolicies can be read now"]


def test_without_the_other_right_policies_are_known_all_the_same(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.server.revoke(USER, "get", "namespaces")
    assert place.labels("team-a") is Missing.REFUSED
    assert place.names("team-a") == []
    (line,) = caplog.messages
    assert "in the way where those select namespaces by labels: cannot get namespace team-a" in line


def test_nobody_waits_for_a_server_that_is_away(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asker_module, "KEPT_FAILURE", 0.5)
    with place.server.faults.reset():
        for name in ("team-a", "team-b", "team-c"):
            place.asker.rules(name)
        assert place.rules("team-c") is Missing.UNKNOWN
        assert {place.asker.rules(name) for name in ("team-a", "team-b", "new")} == {Missing.UNKNOWN}
        assert place.asker.requests == {("networkpolicies", "failed"): 1}
    time.sleep(0.55)
    assert place.names("team-a") == []


def test_a_server_that_asks_for_time_gets_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asker_module, "KEPT_FAILURE", 0.01)
    with place.server.faults.status(429, retry_after=1, count=1):
        assert place.rules("team-a") is Missing.UNKNOWN
    time.sleep(0.1)
    assert place.asker.rules("team-b") is Missing.UNKNOWN
    time.sleep(1.0)
    assert place.names("team-b") == []


def test_one_namespace_that_fails_is_no_trouble_for_others(place: Place) -> None:
    path = "/apis/networking.k8s.io/v1/namespaces/team-a"
    with place.server.faults.status(500, path=path), place.server.faults.status(404, path="/api/v1/namespaces/gone"):
        assert place.rules("team-a") is Missing.UNKNOWN
        assert place.labels("gone") is Missing.UNKNOWN
        assert place.names("team-b") == []
        assert place.asker.rules("team-a") is Missing.UNKNOWN, "not asked again at once"
    assert len(place.asked()) == 3


class Answers:
    """An API server that answers what it is told."""

    def __init__(self, *pages: Any, labels: Any = None) -> None:
        self.pages, self.labels = list(pages), labels
        self.tokens: list[str] = []

    def list_network_policies_page(self, name: str, *, limit: int, continue_token: str = "", **_: Any) -> Any:
        self.tokens.append(continue_token)
        page = self.pages.pop(0)
        if isinstance(page, Exception):
            raise page
        return page

    def namespace(self, name: str) -> Any:
        return {"kind": "Namespace", "metadata": {"name": name, "labels": self.labels}}


def page(*items: Any, token: str = "") -> Any:
    return {"items": list(items), "metadata": {"continue": token}}


MANY_PORTS = [{"ports": [{"port": port} for port in range(1, 300)]}]
UNUSABLE = {
    "a policy that no server takes": page(policy("a", policyTypes=["Sideways"])),
    "one with a field of another type": page({"metadata": 7}),
    "another namespace's": page(policy("a", namespace="team-b")),
    "too many terms": page(*(policy(f"p{n}", ingress=MANY_PORTS) for n in range(100))),
}


@pytest.mark.parametrize("answer", UNUSABLE.values(), ids=UNUSABLE)
def test_what_cannot_be_used_is_no_answer(answer: Any) -> None:
    """Half of a namespace's policies would be another namespace: the one that is missing may be the one that admits."""
    with pytest.raises(requests.Unusable):
        requests.request_rules(Answers(answer), "team-a")


def test_a_list_that_has_no_end_is_an_error() -> None:
    endless = Answers(*(page(policy(f"p{n}"), token=f"t{n}") for n in range(9)))
    with pytest.raises(ApiError):
        requests.request_rules(endless, "team-a")
    assert len(endless.tokens) == requests.MAX_PAGES


def test_pages_are_put_together() -> None:
    api = Answers(page(policy("a"), token="more"), page(policy("b")))
    rules, size = requests.request_rules(api, "team-a")
    assert [each.name for each in rules.policies("team-a")] == ["a", "b"]
    assert (size, api.tokens) == (3, ["", "more"])


@pytest.mark.parametrize("labels", ["text", {"a": 1}, {f"k{n}": "" for n in range(1_001)}])
def test_labels_that_are_none_are_no_answer(labels: Any) -> None:
    with pytest.raises(requests.Unusable):
        requests.request_namespace(Answers(labels=labels), "team-a")
    assert requests.request_namespace(Answers(labels={"a": None}), "team-a") == (requests.Namespace({"a": ""}), 2)


def test_unusable_policies_are_not_asked_for_again_at_once() -> None:
    done = threading.Event()
    asker = Asker(Answers(UNUSABLE["another namespace's"]), on_answer=done.set, how_to_grant=lambda verb, what: "")
    assert asker.rules("team-a") is Missing.AWAITED
    assert done.wait(5)
    assert asker.rules("team-a") is Missing.UNKNOWN
    assert asker.requests == {("networkpolicies", "unusable"): 1}
    asker.close()


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asker_module, "MAX_ALL_TERMS", 10)
    monkeypatch.setattr(asker_module, "MAX_WAITING", 3)
    answered = threading.Semaphore(0)
    api = Answers(*(page(policy("a", namespace=f"n{n}"), policy("b", namespace=f"n{n}")) for n in range(9)))
    asker = Asker(api, on_answer=answered.release, how_to_grant=lambda verb, what: "")
    for n in range(9):
        assert asker.rules(f"n{n}") is Missing.AWAITED
        assert answered.acquire(timeout=5)
    kept = Counter(isinstance(asker.rules(f"n{n}"), Rules) for n in range(8, 5, -1))
    assert kept == {True: 3}
    asker.close()
    assert asker.rules("n0") is Missing.UNKNOWN, "nobody asks any more"


def test_questions_are_paced_and_those_that_cannot_wait_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asker_module, "MAX_WAITING", 3)
    monkeypatch.setattr(asker_module, "TokenBucket", lambda rate, burst: TokenBucket(0.1, 1))
    answered = threading.Semaphore(0)
    asker = Asker(Answers(page()), on_answer=answered.release, how_to_grant=lambda verb, what: "")
    assert asker.rules("a") is Missing.AWAITED
    assert answered.acquire(timeout=5)
    assert [asker.rules(name) for name in "bcde"] == [Missing.AWAITED] * 3 + [Missing.UNKNOWN]
    assert not answered.acquire(timeout=0.3)
    asker.close()


def test_500_policies_take_less_than_3_mb() -> None:
    def rich(space: str, number: int) -> Any:
        selector = {"matchLabels": {"app": f"app-{number}", "team": space}}
        peers = [
            {
                "podSelector": {"matchLabels": {"app": f"client-{number}-{each}"}},
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": f"ns-{each}"}},
            }
            for each in range(3)
        ]
        block = {"ipBlock": {"cidr": f"10.{number}.0.0/16", "except": [f"10.{number}.2.0/24"]}}
        return policy(
            f"policy-{number}",
            namespace=space,
            podSelector=selector,
            policyTypes=["Ingress", "Egress"],
            ingress=[{"from": peers, "ports": [{"port": 8080}, {"port": "metrics"}]}],
            egress=[{"to": [block]}, {"ports": [{"port": 53, "protocol": "UDP"}]}],
        )

    texts = {f"ns-{n}": json.dumps(page(*(rich(f"ns-{n}", each) for each in range(25)))) for n in range(20)}
    tracemalloc.start()
    try:
        kept = [requests.request_rules(Answers(json.loads(text)), space) for space, text in texts.items()]
        gc.collect()
        used, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(len(rules.policies(space)) for (rules, _), space in zip(kept, texts, strict=True)) == 500
    assert sum(size for _, size in kept) < asker_module.MAX_ALL_TERMS, "all of them are kept at a time"
    assert used < 3_000_000


def test_a_namespace_says_whether_its_owner_wants_events_with_the_labels_it_has(place: Place) -> None:
    quiet = namespace("team-a", team="a")
    quiet["metadata"]["annotations"] = {"kiptail/events": "peers"}
    place.server.namespaces.put(quiet)
    place.server.namespaces.put(namespace("team-b"))
    assert place.asker.opt_out("team-a") is Missing.AWAITED
    assert place.labels("team-a")["team"] == "a"
    place.labels("team-b")
    assert (place.asker.opt_out("team-a"), place.asker.opt_out("team-b")) == ("peers", "")
    assert len(place.asked()) == 2, "both are one request"


def test_that_only_opt_outs_cannot_be_read_is_not_logged_until_labels_are_needed(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.server.revoke(USER, "get", "namespaces")
    while (found := place.asker.opt_out("team-a")) is Missing.AWAITED:
        assert place.answers.acquire(timeout=5)
    assert (found, caplog.messages) == (Missing.REFUSED, [])
    assert place.labels("team-a") is Missing.REFUSED
    (said,) = caplog.messages
    assert "where those select namespaces by labels" in said


def test_annotations_of_a_namespace_that_are_none_are_no_answer() -> None:
    class Api(Answers):
        def namespace(self, name: str) -> dict[str, Any]:
            return {"metadata": {"name": name, "annotations": {"kiptail/events": 1}}}

    with pytest.raises(requests.Unusable):
        requests.request_namespace(Api(), "team-a")
