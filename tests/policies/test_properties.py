"""Random clusters: kiptail's evaluation is that of a naive one, and what it suggests opens what it says and no more."""

from __future__ import annotations

import copy
import os
import subprocess
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kiptail.credentials import kubectl_yaml
from kiptail.policies.evaluate import Case, verdicts
from kiptail.policies.explanation import Explanation, explain
from kiptail.policies.policy import policy_of
from tests.apiserver import ApiServer
from tests.apiserver.network_policies import validate_network_policy
from tests.support.fuzzing import cases
from tests.support.policies import (
    NAMESPACES,
    OUTSIDE,
    PORTS,
    PROTOCOLS,
    Cluster,
    clusters,
    connection,
    group,
    naive_allowed,
    naive_end,
)

PORT = st.one_of(
    st.just(""),
    st.builds(lambda port, protocol: f"{port}/{protocol}", st.sampled_from(PORTS), st.sampled_from(PROTOCOLS)),
)
BIG = settings(max_examples=cases(20))


def parts(port: str) -> tuple[str | None, int | None]:
    number, _, protocol = port.partition("/")
    return (protocol, int(number)) if port else (None, None)


def ref(end: Any) -> str:
    return end if isinstance(end, str) else f"{end['metadata']['namespace']}/{end['metadata']['name']}"


@BIG
@given(clusters(), st.lists(PORT, min_size=1, max_size=3, unique=True))
def test_the_evaluation_is_that_of_a_naive_evaluator(cluster: Cluster, ports: list[str]) -> None:
    objects = cluster.objects()
    rules = objects.rules()
    ends = [*cluster.pods, *OUTSIDE]
    for port in ports:
        for source in ends:
            for destination in ends:
                asked = connection(objects, ref(source), ref(destination), port)
                families = asked.families()
                passes = []
                for family in families:
                    addresses = [_address(end, family) for end in (source, destination)]
                    found = {verdict.direction: verdict for verdict in verdicts(Case(asked, rules, family))}
                    for direction, verdict in found.items():
                        naive = naive_end(
                            cluster, direction, (source, destination), (addresses[0], addresses[1]), parts(port)
                        )
                        isolated, admitted = naive or ([], [])
                        assert sorted(each.ref for each in verdict.isolated_by) == isolated
                        assert sorted(each.ref for each in verdict.allowed_by) == admitted
                    passes.append(all(verdict.allowed for verdict in found.values()))
                assert any(passes) == naive_allowed(cluster, source, destination, parts(port))


def _address(end: Any, family: int | None) -> str:
    addresses = [end] if isinstance(end, str) else [each["ip"] for each in end["status"]["podIPs"]]
    return next(address for address in addresses if (":" in address) == (family == 6))


def denied(cluster: Cluster, data: st.DataObject) -> tuple[Any, Any, str, Explanation] | None:
    """A random denied connection with what is said of it."""
    objects = cluster.objects()
    port = data.draw(PORT)
    pairs = [
        (source, destination)
        for source in [*cluster.pods, *OUTSIDE]
        for destination in [*cluster.pods, *OUTSIDE]
        if not naive_allowed(cluster, source, destination, parts(port))
        and connection(objects, ref(source), ref(destination), port).families()
    ]
    if not pairs:
        return None
    source, destination = data.draw(st.sampled_from(pairs))
    return source, destination, port, explain(connection(objects, ref(source), ref(destination), port), objects)


def applied(cluster: Cluster, manifests: list[Any]) -> Cluster:
    new = {(each["metadata"]["namespace"], each["metadata"]["name"]): copy.deepcopy(each) for each in manifests}
    kept = [each for each in cluster.policies if (each["metadata"]["namespace"], each["metadata"]["name"]) not in new]
    return Cluster(cluster.namespaces, cluster.pods, [*kept, *new.values()])


@BIG
@given(clusters(), st.data())
def test_a_suggestion_admits_the_connection_and_opens_nothing_that_it_does_not_name(
    cluster: Cluster, data: st.DataObject
) -> None:
    found = denied(cluster, data)
    if found is None:
        return
    source, destination, port, answer = found
    assert not answer.allowed
    manifests = answer.suggestion.manifests
    assert manifests
    after = applied(cluster, manifests)
    assert naive_allowed(after, source, destination, parts(port))
    notes = " ".join(answer.notes)
    meant = tuple(group(end) if isinstance(end, dict) else end for end in (source, destination))
    alive = [pod for pod in cluster.pods if not pod["spec"].get("hostNetwork")]
    for one in [*alive, *OUTSIDE]:
        for other in [*alive, *OUTSIDE]:
            before_it = naive_allowed(cluster, one, other, parts(port))
            after_it = naive_allowed(after, one, other, parts(port))
            if after_it and not before_it:
                pair = tuple(group(end) if isinstance(end, dict) else end for end in (one, other))
                opened = f"{ref(one)} → {ref(other)}"
                assert pair == meant or opened in notes or "more: labels" in notes
            if before_it and not after_it:
                # One that no policy selected yet is isolated by a new one: only where that is said.
                assert "isolates" in notes


@BIG
@given(clusters(), st.data())
def test_of_other_ports_a_suggestion_opens_none(cluster: Cluster, data: st.DataObject) -> None:
    found = denied(cluster, data)
    if found is None or not found[2]:
        return
    source, destination, port, answer = found
    after = applied(cluster, answer.suggestion.manifests)
    number, protocol = int(port.partition("/")[0]), port.partition("/")[2]
    for other in ((protocol, number + 1), ("UDP" if protocol == "TCP" else "TCP", number), (None, None)):
        if naive_allowed(after, source, destination, other):
            assert naive_allowed(cluster, source, destination, other)


@BIG
@given(clusters(), st.data())
def test_the_api_server_takes_what_is_suggested_and_kubectl_reads_what_is_written(
    cluster: Cluster, data: st.DataObject
) -> None:
    found = denied(cluster, data)
    if found is None:
        return
    for manifest in found[3].suggestion.manifests:
        assert validate_network_policy(manifest) == []
        assert kubectl_yaml.parse(kubectl_yaml.written(manifest).encode()) == manifest
        policy_of(manifest)


def test_kubectl_takes_suggestions(server: ApiServer, tmp_path: Path) -> None:
    """Many at once; with its own reading of the YAML, and with the server's validation."""
    made: dict[tuple[str, str], Any] = {}

    @settings(max_examples=cases(40), database=None, derandomize=True)
    @given(clusters(), st.data())
    def gather(cluster: Cluster, data: st.DataObject) -> None:
        found = denied(cluster, data)
        for manifest in found[3].suggestion.manifests if found else []:
            made[manifest["metadata"]["namespace"], manifest["metadata"]["name"]] = manifest

    gather()
    for name in NAMESPACES:
        server.namespaces.put({"metadata": {"name": name}})
    file = tmp_path / "suggestions.yaml"
    file.write_text("---\n".join(kubectl_yaml.written(manifest) for manifest in made.values()))
    environment = {**os.environ, "KUBECONFIG": str(server.kubeconfig(tmp_path / "kubeconfig")), "HOME": str(tmp_path)}
    for where in ("client", "server"):
        done = subprocess.run(
            ["kubectl", "apply", f"--dry-run={where}", "-f", file],
            capture_output=True,
            check=False,
            timeout=60,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == len(made) > cases(20)
