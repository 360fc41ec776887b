"""Watches of the test server."""

import threading

import hypothesis
import hypothesis.strategies as st
import pytest

from tests.apiserver.client import Client
from tests.apiserver.objects import EVENTS, event, pod

WATCH_LIST = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"


def test_a_watch_without_a_version_begins_with_what_is_there(client, server):
    server.pods.put(pod("old"))
    with client.watch("/api/v1/pods?watch=true") as watch:
        assert watch.short(1) == [("ADDED", "old")]
        server.pods.put(pod("new"))
        server.pods.delete("old", namespace="team-a")
        assert watch.short(2) == [("ADDED", "new"), ("DELETED", "old")]


def test_a_bookmark_promises_no_more_than_was_sent_and_a_watch_can_go_on_from_it(client, server):
    server.bookmark_period = 0.02
    base = "/api/v1/pods?watch=1&allowWatchBookmarks=true&fieldSelector=spec.nodeName=node-1&resourceVersion="
    with client.watch(f"{base}{server.store.version}") as watch:
        last = 0
        for number in range(20):
            server.pods.put(pod(f"other{number}", node="node-2"))
            mine = int(server.pods.put(pod(f"mine{number}"))["metadata"]["resourceVersion"])
            seen = False
            while last < mine:
                line = watch.next()
                last = int(line["object"]["metadata"]["resourceVersion"])
                seen = seen or line["type"] == "ADDED"
            assert seen
        server.compact()
        while line["type"] != "BOOKMARK" or last < server.store.version:
            line = watch.next()
            last = int(line["object"]["metadata"]["resourceVersion"])
    with client.watch(f"{base}{last}") as watch:
        server.pods.put(pod("later"))
        assert ("ADDED", "later") in watch.short(5)


def test_the_history_is_bounded_and_what_is_older_is_gone(client, server):
    server.history = 5
    versions = [server.pods.put(pod(f"p{number}"))["metadata"]["resourceVersion"] for number in range(10)]
    with client.watch(f"/api/v1/pods?watch=1&resourceVersion={versions[3]}") as watch:
        [line] = watch.rest()
        assert (line["type"], line["object"]["code"], line["object"]["reason"]) == ("ERROR", 410, "Expired")
    with client.watch(f"/api/v1/pods?watch=1&resourceVersion={versions[4]}") as watch:
        assert watch.short(5) == [("ADDED", f"p{number}") for number in range(5, 10)]
    exact = f"/api/v1/pods?resourceVersionMatch=Exact&resourceVersion={versions[3]}"
    assert client.get(exact).status == 410
    # Another kind's history is its own.
    with client.watch(f"/api/v1/nodes?watch=1&resourceVersion={versions[0]}&timeoutSeconds=1") as watch:
        assert watch.rest() == []


def test_compaction_does_not_disturb_running_watches(client, server):
    version = server.store.version
    with client.watch(f"/api/v1/pods?watch=1&resourceVersion={version}") as watch:
        server.compact()
        server.pods.put(pod("web"))
        assert watch.short(1) == [("ADDED", "web")]
    with client.watch(f"/api/v1/pods?watch=1&resourceVersion={version}") as watch:
        assert watch.next()["object"]["code"] == 410


def test_a_watch_list_ends_with_its_bookmark_and_goes_on(client, server):
    for number in range(300):
        server.pods.put(pod(f"p{number:03}"))
    with client.watch(f"/api/v1/pods?{WATCH_LIST}") as watch:
        assert watch.short(300) == [("ADDED", f"p{number:03}") for number in range(300)]
        end = watch.next()
        assert end["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        server.pods.put(pod("new"))
        assert watch.short(1) == [("ADDED", "new")]
    with client.watch(f"/api/v1/services?{WATCH_LIST}") as watch:
        assert watch.next()["type"] == "BOOKMARK"


def test_a_server_without_watch_list_rejects_or_ignores_it(client, server):
    server.pods.put(pod("web"))
    path = f"/api/v1/pods?{WATCH_LIST}"
    server.watch_list = "reject"
    refused = client.get(path)
    assert (refused.status, refused.body["reason"]) == (422, "Invalid")
    assert "sendInitialEvents is forbidden" in refused.body["message"]
    server.watch_list = "ignore"
    with client.watch(path) as watch:
        assert watch.short(1) == [("ADDED", "web")]
        watch.patience(0.2)
        with pytest.raises(TimeoutError):
            watch.raw()
    server.watch_list = "serve"
    assert client.get("/api/v1/pods?watch=1&sendInitialEvents=true").status == 422
    assert client.get("/api/v1/pods?watch=1&resourceVersionMatch=NotOlderThan").status == 422


def test_a_watch_ends_when_its_client_goes_away(client, server):
    with client.watch("/api/v1/pods?watch=1"):
        [watch] = server.wait_for(server.watches)
        assert watch.request.path == "/api/v1/pods"
    server.wait_for(lambda: not server.watches())


def test_a_bookmark_comes_two_seconds_before_the_end(client, server):
    version = server.store.version
    with client.watch(
        f"/api/v1/pods?watch=1&resourceVersion={version}&allowWatchBookmarks=true&timeoutSeconds=3"
    ) as watch:
        assert [line["type"] for line in watch.rest()] == ["BOOKMARK"]


def test_watches_see_every_change_in_order_while_many_write(server):
    def write(writer):
        with Client(server) as caller:
            for number in range(30):
                assert caller.post(EVENTS, event(f"e{writer}-{number}")).status == 201
                caller.patch(f"{EVENTS}/e{writer}-{number}", {"count": number + 1})

    server.store.ensure_namespace("team-a")
    with Client(server) as client, client.watch("/api/v1/events?watch=1") as watch:
        writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for writer in writers:
            writer.start()
        lines = watch.take(4 * 60)
        for writer in writers:
            writer.join(10)
    versions = [int(line["object"]["metadata"]["resourceVersion"]) for line in lines]
    assert versions == sorted(set(versions))
    assert [line["type"] for line in lines].count("ADDED") == 120
    assert sorted(item["count"] for item in server.events()) == sorted(list(range(1, 31)) * 4)


NAMES = st.sampled_from(["a", "b", "c", "d"])
STEPS = st.one_of(
    st.tuples(st.just("put"), NAMES, st.sampled_from(["node-1", "node-2"])),
    st.tuples(st.just("delete"), NAMES, st.none()),
    st.tuples(st.just("compact"), st.none(), st.none()),
)


# One server serves all examples: each begins by deleting what the one before it left.
@hypothesis.settings(max_examples=60, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(before=st.lists(STEPS), between=st.lists(STEPS, max_size=4), after=st.lists(STEPS))
def test_a_list_and_the_watch_from_it_add_up_to_the_truth(client, server, before, between, after):
    """Whatever happens, with pages and a selector that objects enter and leave."""
    selector = "fieldSelector=spec.nodeName=node-1"

    def act(steps):
        for step, name, node in steps:
            if step == "compact":
                server.compact()
            elif step == "put":
                server.pods.put(pod(name, node=node))
            elif server.pods.get(name, namespace="team-a"):
                server.pods.delete(name, namespace="team-a")

    server.pods.clear()
    act(before)
    listed = client.get(f"/api/v1/pods?limit=2&{selector}").body
    known = {item["metadata"]["name"]: item for item in listed["items"]}
    act(step for step in between if step[0] != "compact")
    if listed["metadata"].get("continue"):
        rest = client.get(f"/api/v1/pods?{selector}&continue={listed['metadata']['continue']}").body
        known |= {item["metadata"]["name"]: item for item in rest["items"]}
    with client.watch(
        f"/api/v1/pods?watch=1&{selector}&resourceVersion={listed['metadata']['resourceVersion']}"
    ) as watch:
        server.wait_for(server.watches)
        act(after)
        server.pods.put(pod("last"))
        while "last" not in known:
            line = watch.next()
            name = line["object"]["metadata"]["name"]
            assert (name in known) == (line["type"] != "ADDED")
            if line["type"] == "DELETED":
                del known[name]
            else:
                known[name] = line["object"]
    # Else the next example might take this watch for its own.
    server.wait_for(lambda: not server.watches())
    truth = {item["metadata"]["name"]: item for item in server.pods() if item["spec"]["nodeName"] == "node-1"}
    assert {name: item["metadata"] for name, item in known.items()} == {
        name: item["metadata"] for name, item in truth.items()
    }
