"""What `kiptail check` says of a credential, asked of a server. Remedies are tried, and have to change what it said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from kiptail.admin.manifests import dedicated
from kiptail.check.facts import Finding, Level
from kiptail.check.findings.cluster import cluster_findings
from kiptail.check.probes.cluster import gather_cluster
from kiptail.config.settings import resolve
from kiptail.credentials.identity import Identity
from kiptail.credentials.renewal import KeptToken
from kiptail.errors import ClusterError
from kiptail.kube.access import require_rights
from kiptail.kube.api import KubeApi
from kiptail.kube.rights import required_rights
from tests.apiserver import ApiServer
from tests.apiserver.access import User
from tests.apiserver.certificates import authority
from tests.apiserver.objects import pod
from tests.support.journald import export_to_journal, kernel_entry
from tests.support.running import ROOT, run_kiptail

WIRE = ROOT / "tests" / "wire"
KUBELET = ("system:node:node-1", "system:nodes")
GRANT_LOOKUPS = "`kiptail manifests --identity kubelet | kubectl apply -f -` grants it, to all kubelets"
USE_NODE_1 = "use node-1 (--node-name node-1): a kubelet may follow the pods of its own node only"


class Place:
    """A cluster with a pod on each of two nodes."""

    def __init__(self, server: ApiServer, directory: Path) -> None:
        self.server, self.directory = server, directory
        self.kubeconfig = directory / "kubeconfig"
        for name, node in (("mine", "node-1"), ("other", "node-2")):
            server.pods.put(pod(name, node=node))

    def kubelet(self, *client: str) -> None:
        self.server.kubeconfig(self.kubeconfig, client=client or KUBELET)

    def account(self, namespace: str, name: str) -> str:
        """Uses a token of this service account; returns its user."""
        user = f"system:serviceaccount:{namespace}:{name}"
        token = self.server.access.add_token(User(user, ("system:serviceaccounts",), "uid"), lifetime=3_600)
        self.server.kubeconfig(self.kubeconfig, token=token)
        return user

    def check(self, **flags: object) -> list[Finding]:
        """What is not well."""
        given = {"kubeconfig": str(self.kubeconfig), "state_directory": str(self.directory / "state"), **flags}
        settings = resolve(given, {}, now_us=0, need_prefix=False, default_config=self.directory / "none")
        facts = gather_cluster(settings, KeptToken(self.directory / "state" / "token"))
        return [found for found in cluster_findings(facts, now=time.time()) if found.level is not Level.OK]

    def rights(self, **flags: object) -> dict[str, str]:
        """Remedies by missing right."""
        found = [f for f in self.check(**flags) if f.topic == "rights"]
        return {f.text.removeprefix("may not ").partition(", ")[0]: f.remedy for f in found}

    def start(self, node: str | None, *, name: str = "kubeconfig") -> str:
        """Why the daemon does not start; "" if it would. ``node``: that of --pod-index node; None: cluster."""
        with closing(KubeApi.from_kubeconfig(self.directory / name)) as api:
            try:
                require_rights(api, required_rights(node, posting=True), must_answer=True)
            except ClusterError as error:
                return str(error)
        return ""

    def apply_what_it_says(self, remedy: str) -> None:
        """Run the command that a remedy begins with, as an administrator would."""
        command = remedy.split("`")[1].removesuffix(" | kubectl apply -f -").split()
        assert command[:2] == ["kiptail", "manifests"], remedy
        self.server.apply(run_kiptail(*command[1:]).stdout.decode())


@pytest.fixture
def place(server: ApiServer, tmp_path: Path) -> Place:
    return Place(server, tmp_path)


# -- kubelets ---------------------------------------------------------------------------------------------------


def test_the_recorded_answers_are_those_of_such_a_kubelet() -> None:
    """What the test server is held to: a real one lets a kubelet list by its own node's name, and not all nodes."""

    def answer(name: str) -> Any:
        return json.loads((WIRE / name).read_text())

    assert answer("09-pods-list-forbidden-for-node.json")["response"]["status"] == 403
    own = answer("10-pods-list-by-node-for-node.json")
    assert (own["user"], own["response"]["status"]) == ("system:node:node1", 200)
    assert "spec.nodeName=node1" in own["request"]["path"].replace("%3D", "=")
    allowed, denied = answer("27-access-review.json"), answer("28-access-review-denied.json")
    assert allowed["response"]["body"]["status"]["allowed"] is True
    assert denied["response"]["body"]["status"]["allowed"] is False
    assert denied["request"]["body"]["spec"]["resourceAttributes"] == {"verb": "list", "resource": "nodes"}


#: Whatever manifest of ours is applied, no kubelet has these; a warning each.
NO_KUBELETS = {"list nodes", "list networkpolicies", "get namespaces"}


def test_a_kubelet_is_told_what_grants_look_ups_and_that_works(place: Place) -> None:
    place.kubelet()
    found = place.rights()
    assert found["list pods"] == GRANT_LOOKUPS
    assert set(found) == {"list pods", *NO_KUBELETS}
    place.apply_what_it_says(found["list pods"])
    assert set(place.rights()) == NO_KUBELETS
    assert set(place.rights(explain="off")) == {"list nodes"}
    assert place.start("node-1") == ""


def test_no_command_is_named_for_what_none_grants_a_kubelet(place: Place) -> None:
    place.kubelet()
    remedy = place.rights()["list nodes"]
    assert remedy == (
        "no kubelet may by itself; a ClusterRole to list nodes, bound to the group system:nodes, grants it"
    )
    for identity in ("dedicated", "kubelet"):
        place.server.apply(run_kiptail("manifests", "--identity", identity).stdout.decode())
    assert "list nodes" in place.rights(), "neither of them would have helped"
    place.server.grant("system:nodes", "list", "nodes")
    place.server.grant("system:nodes", "list", "networkpolicies", group="networking.k8s.io")
    place.server.grant("system:nodes", "get", "namespaces")
    assert place.check() == []


@pytest.mark.parametrize("looked_up", [False, True], ids=["as it is", "with look-ups granted"])
def test_another_nodes_name_is_one_problem_with_the_name_to_use(place: Place, looked_up: bool) -> None:
    place.kubelet()
    if looked_up:
        place.apply_what_it_says(GRANT_LOOKUPS)
    found = place.check(node_name="node-2")
    (problem,) = [f for f in found if f.level is Level.PROBLEM]
    assert problem.topic == "node"
    assert problem.text == (
        "the node is called node-2 here, and the credential is that of node-1's kubelet,"
        f" which may not {'watch' if looked_up else 'list or watch'} the pods of node-2"
    )
    assert problem.remedy == USE_NODE_1
    assert not any("kiptail manifests |" in f.remedy for f in found)
    assert not any(f.level is Level.PROBLEM for f in place.check(node_name="node-1"))


def test_another_nodes_name_that_is_allowed_is_worth_a_word(place: Place) -> None:
    place.kubelet()
    place.server.grant("system:nodes", "list watch", "pods")
    place.server.grant("system:nodes", "list", "nodes")
    place.server.grant("system:nodes", "list", "networkpolicies", group="networking.k8s.io")
    place.server.grant("system:nodes", "get", "namespaces")
    (warning,) = place.check(node_name="node-2")
    assert (warning.topic, warning.level) == ("node", Level.WARNING)
    assert warning.remedy == "use node-1 (--node-name node-1), if that is this machine"
    (problem,) = place.check(node_name="node-3")
    assert problem.level is Level.PROBLEM


def test_the_start_is_refused_with_the_name_to_use(place: Place) -> None:
    place.kubelet()
    assert place.start("node-2") == (
        "the cluster does not allow this credential to list pods with spec.nodeName=node-2,"
        f" watch pods with spec.nodeName=node-2; {USE_NODE_1}"
    )
    assert place.start("node-1") == ""


def test_a_kubelet_cannot_keep_all_pods_and_is_told_what_it_can(place: Place) -> None:
    place.kubelet()
    for _ in range(2):
        found = place.rights(pod_index="cluster")
        assert set(found) >= {"watch pods"}
        for right in set(found) & {"list pods", "watch pods"}:
            assert found[right] == "use --pod-index node, for which a kubelet's credential is enough"
        assert place.start(None).endswith("; use --pod-index node, for which a kubelet's credential is enough")
        # What the kubelets' manifest grants would not be enough, so it is not offered.
        place.apply_what_it_says(GRANT_LOOKUPS)
    assert not any(f.level is Level.PROBLEM for f in place.check())


def test_the_name_of_a_node_without_its_group_is_no_kubelet(place: Place) -> None:
    place.kubelet("system:node:node-1")
    found = place.check(node_name="node-2")
    assert len(found) > 5
    assert {f.remedy for f in found} == {
        "put the credential into the group system:nodes (O=system:nodes in a certificate), as a kubelet's is"
    }
    assert "system:nodes (O=" in place.start("node-1")


def test_a_kubelet_that_is_known_by_a_plugins_token_only(place: Place) -> None:
    """As on EKS: there is no certificate with the name, and the server knows it."""
    place.server.kubeconfig(place.kubeconfig, token=place.server.add_user(*KUBELET))
    (problem,) = [f for f in place.check(node_name="host.internal") if f.level is Level.PROBLEM]
    assert problem.remedy == USE_NODE_1
    assert place.start("host.internal").endswith(f"; {USE_NODE_1}")


@pytest.mark.parametrize("right", ["create", "patch"])
def test_a_cluster_without_the_node_authorizer(place: Place, right: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then a kubelet has what RBAC gives its group, and no manifest of ours has these rights for it."""
    place.kubelet()
    place.server.grant("system:nodes", "list watch", "pods")
    place.server.grant("system:nodes", "list", "nodes services")
    place.server.grant("system:nodes", "list", "networkpolicies", group="networking.k8s.io")
    place.server.grant("system:nodes", "get", "namespaces")
    place.server.grant("system:nodes", "create patch", "events")
    place.server.revoke("system:nodes", right, "events")
    monkeypatch.setattr(User, "node", property(lambda self: ""))
    (problem,) = place.check()
    assert problem.text.startswith(f"may not {right} events, ")
    assert "--authorization-mode" in problem.remedy
    assert "--identity kubelet" not in problem.remedy


def test_a_kubelets_expired_certificate_is_the_kubelets_to_renew(place: Place) -> None:
    pair = authority().expired_client(*KUBELET)
    user = {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
    place.server.kubeconfig(place.kubeconfig, user=user)
    credential = next(f for f in place.check() if f.topic == "credential")
    assert "kubelet-client-current.pem" in credential.remedy
    assert "kiptail kubeconfig" not in credential.remedy


# -- service accounts and others --------------------------------------------------------------------------------


@pytest.mark.parametrize("namespace", ["kube-system", "monitoring"])
def test_kiptails_account_is_granted_its_rights_where_it_is(place: Place, namespace: str) -> None:
    place.account(namespace, "kiptail")
    found = place.rights(node_name="node-1")
    assert len(found) == 10
    (remedy,) = set(found.values())
    more = "" if namespace == "kube-system" else f" --namespace {namespace}"
    assert remedy == f"`kiptail manifests{more} | kubectl apply -f -` grants it"
    assert place.start("node-1").endswith(f"; {remedy}")
    place.apply_what_it_says(remedy)
    assert place.check(node_name="node-1") == []
    assert place.start("node-1") == ""


def test_another_account_is_not_sent_to_a_manifest_that_does_not_name_it(place: Place) -> None:
    user = place.account("monitoring", "agent")
    place.server.apply(dedicated("monitoring"))
    found = place.rights(node_name="node-1")
    token = found.pop("renew its token")
    assert token.startswith("let it create serviceaccounts/token for itself, as the Role kiptail-token that")
    (remedy,) = set(found.values())
    assert remedy.startswith(f"bind {user} to the ClusterRole kiptail that `kiptail manifests` prints, or use an acc")
    assert f"bind {user} to" in place.start("node-1")
    # As said.
    documents = list(yaml.safe_load_all(dedicated()))
    (role,) = [d for d in documents if d["kind"] == "ClusterRole"]
    for rule in role["rules"]:
        (group,) = rule["apiGroups"]
        place.server.grant(user, rule["verbs"], rule["resources"], group=group)
    assert set(place.rights(node_name="node-1")) == {"renew its token"}
    place.server.access.grant(user, "create", "serviceaccounts/token", namespace="monitoring", names=["agent"])
    assert place.check(node_name="node-1") == []


def test_anybody_else_by_the_name_the_server_knows(place: Place) -> None:
    place.server.kubeconfig(place.kubeconfig, token=place.server.add_user("ann@example.com"))
    assert "bind ann@example.com to the ClusterRole kiptail" in place.rights(node_name="node-1")["patch events"]


# -- what is not a matter of rights -----------------------------------------------------------------------------


def test_who_this_is_and_in_which_groups(place: Place) -> None:
    place.kubelet()
    with closing(KubeApi.from_kubeconfig(place.kubeconfig)) as api:
        assert api.identity() == Identity("system:node:node-1", ("system:nodes", "system:authenticated"))
        with place.server.faults.status(404, path="/apis/authentication.k8s.io/v1/selfsubjectreviews"):
            assert api.identity() == Identity("system:node:node-1"), "an older server: as the certificate says"
    user = place.account("a", "b")
    with (
        closing(KubeApi.from_kubeconfig(place.kubeconfig)) as api,
        place.server.faults.status(404, path="/apis/authentication.k8s.io/v1/selfsubjectreviews"),
    ):
        assert api.identity() == Identity(user), "as the token says"


@pytest.mark.parametrize("code", [200, 302, 401, 403, 404])
def test_a_gateway_in_front_is_told_from_an_api_server(place: Place, code: int) -> None:
    place.kubelet()
    with place.server.faults.status(code, text="<html>Welcome</html>"):
        (found,) = (finding for finding in place.check(node_name="node-1") if finding.topic != "kubeconfig")
    assert found.level is Level.PROBLEM
    assert "is a proxy or gateway in between?" in found.text
    assert "proxy" in found.remedy


def test_a_server_that_stumbles_is_not_taken_for_a_missing_right(place: Place) -> None:
    place.kubelet()
    with place.server.faults.status(503, path="/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"):
        (unanswered,) = place.check()
    assert unanswered.text.startswith("no answer to whether it may list pods of its node, ")
    assert "selfsubjectaccessreviews (" not in unanswered.remedy
    with place.server.faults.status(503, path="/api/v1/pods"):
        (listing,) = [f for f in place.check() if f.topic == "node"]
    assert listing.remedy.startswith("run `kiptail check` again")


KubeconfigCase = tuple[Callable[[Place], dict[str, object]], str, str]


def _no_context(place: Place) -> dict[str, object]:
    place.kubelet()
    return {"context": "nope"}


def _other_ca(place: Place) -> dict[str, object]:
    place.server.kubeconfig(place.kubeconfig, ca="wrong")
    return {}


def _other_name(place: Place) -> dict[str, object]:
    document = json.loads(place.server.kubeconfig(place.kubeconfig).read_text())
    document["clusters"][0]["cluster"]["tls-server-name"] = "elsewhere.example.com"
    place.kubeconfig.write_text(json.dumps(document))
    return {}


CASES: dict[str, KubeconfigCase] = {
    "missing": (lambda _: {}, "does not exist", "`kiptail kubeconfig` writes one"),
    "unknown context": (_no_context, "has no context 'nope' (it has test)", "name one of these with --context"),
    "another CA": (_other_ca, "not signed by the certificate authority", "put the cluster's CA into the kubeconfig"),
    "another name": (_other_name, "is for another name", "use a name that is in it: --server, or tls-server-name"),
}


@pytest.mark.parametrize(("prepare", "told", "remedy"), CASES.values(), ids=CASES)
def test_a_kubeconfig_that_does_not_work(
    place: Place, prepare: Callable[[Place], dict[str, object]], told: str, remedy: str
) -> None:
    (problem,) = place.check(**prepare(place))
    assert told in problem.text
    assert problem.remedy.startswith(remedy)
    assert remedy not in problem.text


def test_a_certificate_that_is_not_trusted_ends_the_start_with_the_same_remedy(place: Place) -> None:
    _other_name(place)
    told = place.start("node-1")
    assert told.count("tls-server-name in the kubeconfig") == 1
    assert "put the cluster's CA" not in told


@pytest.fixture
def somebody() -> str:
    """A program that becomes nobody and runs kiptail."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    return (
        "import os, sys, kiptail.cli.main, kiptail.check.run; os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        "kiptail.cli.main.main(sys.argv[1:])"
    )


def test_a_kubeconfig_that_may_not_be_read_takes_root_and_no_new_one(place: Place, somebody: str) -> None:
    place.kubelet()
    place.directory.chmod(0o755)
    command = [sys.executable, "-c", somebody, "check", "--output", "json", "--kubeconfig", str(place.kubeconfig)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, cwd=ROOT)
    assert done.returncode == 1, done.stderr
    (problem,) = [f for f in json.loads(done.stdout)["findings"] if f["topic"] == "kubeconfig"]
    assert "may not be read by this user (uid 65534)" in problem["text"]
    assert problem["remedy"] == "run as root, or let this user read it"


@pytest.mark.live
def test_the_commands_themselves_say_so(place: Place) -> None:
    """`kiptail check`, and the daemon with exit code 4."""
    place.kubelet()
    entry = kernel_entry("booted", realtime_us=time.time_ns() // 1000, monotonic_us=1)
    export_to_journal([entry], place.directory / "journal" / "system.journal")
    common = ("--kubeconfig", place.kubeconfig, "--node-name", "node-2", "--state-directory", place.directory / "state")
    common += ("--journal-directory", place.directory / "journal")
    printed = run_kiptail("check", *common).stdout.decode()
    assert f" → {USE_NODE_1}\n" in printed
    done = run_kiptail("--prefix", "x:", "--metrics-address", "off", *common)
    assert done.returncode == 4
    assert done.stderr.decode().endswith(f"; {USE_NODE_1}\n")
