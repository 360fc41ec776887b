"""Which pods a workload has."""

from __future__ import annotations

from typing import Any

import pytest

from kiptail.drops.owned import Target, may_own, owned_by, target


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("pod/web", "Pod"), ("po/web", "Pod"), ("web", "Pod"), ("deploy/web", "Deployment"), ("rs/web", "ReplicaSet"),
        ("Deployment/web", "Deployment"), ("deployments.apps/web", "Deployment"), ("sts/web", "StatefulSet"),
        ("ds/web", "DaemonSet"), ("job/web", "Job"), ("cj/web", "CronJob"),
    ],
)  # fmt: skip
def test_kinds_are_written_as_for_kubectl(text: str, kind: str) -> None:
    assert target(text) == Target(kind, "web")


@pytest.mark.parametrize(
    "text", ["", "/", "/web", "svc/web", "pod/", "pod/Web", "pod/../x", "deploy/a/b", "pod/\x1b[31m"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is none of|has no name"):
        target(text)


@pytest.mark.parametrize(
    ("wanted", "pod", "may"),
    [
        ("pod/web", "web", True),
        ("pod/web", "web-0", False),
        ("deploy/web", "web-6d4cf56db6-x7k2p", True),
        ("deploy/web", "web-x7k2p", False),
        ("deploy/web", "web-api-6d4cf56db6-x7k2p", False),
        ("deploy/web-api", "web-api-6d4cf56db6-x7k2p", True),
        ("deploy/web", "web-6d4cf56db6-x7k2a", False),  # names are made without vowels
        ("deploy/web", "web", False),
        ("rs/web-6d4cf56db6", "web-6d4cf56db6-x7k2p", True),
        ("rs/web", "web-6d4cf56db6-x7k2p", False),
        ("sts/db", "db-0", True),
        ("sts/db", "db-12", True),
        ("sts/db", "db-x7k2p", False),
        ("ds/log", "log-x7k2p", True),
        ("job/once", "once-x7k2p", True),
        ("cronjob/backup", "backup-29402880-x7k2p", True),
        ("cronjob/backup", "backup-x7k2p", False),
        ("deploy/" + "a" * 60, "a" * 58 + "x7k2p", True),
        ("deploy/" + "a" * 50, "a" * 50 + "-6d4cf5" + "-" + "x7k2p", True),
        ("deploy/" + "a" * 50, "a" * 50 + "-6d4cf56" + "x7k2p", True),
    ],
)
def test_names_tell_whose_a_pod_can_be(wanted: str, pod: str, may: bool) -> None:
    assert may_own(target(wanted), pod) is may


def pod(kind: str = "ReplicaSet", name: str = "web-abc", *, controller: object = True, template: str = "abc") -> Any:
    reference = {"kind": kind, "name": name, "controller": controller}
    return {
        "metadata": {"name": "web-abc-12345", "labels": {"pod-template-hash": template}, "ownerReferences": [reference]}
    }


def test_a_controller_tells_whose_it_is() -> None:
    assert owned_by(target("deploy/web"), pod())
    assert owned_by(target("rs/web-abc"), pod())
    assert owned_by(target("sts/web"), pod("StatefulSet", "web"))
    assert owned_by(target("pod/web-abc-12345"), pod())
    assert owned_by(target("job/backup-29402880"), pod("Job", "backup-29402880"))
    assert owned_by(target("cronjob/backup"), pod("Job", "backup-29402880"))
    assert not owned_by(target("cronjob/backup"), pod("Job", "backup-x"))
    assert not owned_by(target("deploy/web"), pod(template="xyz"))
    assert not owned_by(target("deploy/web"), pod("StatefulSet", "web"))
    assert not owned_by(target("sts/web"), pod("StatefulSet", "web", controller=None))
    assert not owned_by(target("deploy/web-abc"), pod())


@pytest.mark.parametrize(
    "odd", [{}, {"metadata": None}, {"metadata": {"ownerReferences": 7}}, {"metadata": {"ownerReferences": [None, 1]}}]
)
def test_what_is_no_pod_is_nobodys(odd: Any) -> None:
    for wanted in ("deploy/web", "rs/web", "pod/web"):
        assert not owned_by(target(wanted), odd)
