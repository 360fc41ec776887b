"""An API server that is away, in every way that it can be: kiptail counts on, lives, and then tells all."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apiserver import ApiServer
from tests.apiserver.access import User
from tests.apiserver.process import ServerProcess
from tests.crash.scenarios import (
    LEFT,
    NEW_PAIRS,
    RIGHT,
    SOON,
    WATCHDOG,
    freeze,
    order,
    outlast,
    restart_empty,
    wait_until_told,
)
from tests.support.dnsserver import DnsServer
from tests.support.scene import Scene, scene
from tests.support.tally import miscounted

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(600),  # other test runs on this machine are waited for: see tests.support.netns.all_netns
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces, nft, /dev/kmsg and journald"),
]

USER = "kiptail"
#: A name that the test server's certificate is for.
HOST = "kubernetes.default.svc"
#: As whoever is started with it sees the machine's name servers.
WITH_RESOLV_CONF = 'mount --bind "$1" /etc/resolv.conf; shift; exec "$@"'


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path, {"left": LEFT, "right": RIGHT}) as node:
        yield node


@pytest.fixture
def server(node: Scene) -> Iterator[ApiServer]:
    with ApiServer() as server:
        for pod in node.pod_objects():
            server.pods.put(pod)
        server.grant(USER, "get list watch", "pods")
        server.grant(USER, "create patch", "events")
        yield server


@pytest.fixture
def kubeconfig(server: ApiServer, tmp_path: Path) -> Path:
    return server.kubeconfig(tmp_path / "kubeconfig", token=server.add_user(USER))


def test_a_server_that_freezes_is_told_all_when_it_goes_on(tmp_path: Path) -> None:
    freeze(tmp_path, 12.0)


def test_a_server_that_comes_back_empty_gets_the_events_that_have_news(tmp_path: Path) -> None:
    restart_empty(tmp_path, 6.0)


@pytest.mark.parametrize(("code", "retry_after"), [(503, None), (429, 1)])
def test_a_server_that_answers_with_errors_is_told_all_afterwards(
    node: Scene, server: ApiServer, kubeconfig: Path, code: int, retry_after: int | None
) -> None:
    with node.kiptail(kubeconfig, **WATCHDOG) as kiptail:
        kiptail.wait_for(server.watches, "the pods are watched")
        with server.faults.status(code, retry_after=retry_after):
            outlast(node, kiptail, 5.0)
            assert not server.events()
        wait_until_told(kiptail, server.events)
        assert kiptail.stop() == 0
    assert not miscounted(node.lines(), server.events(), node.pods)


def test_connections_that_are_reset_delay_and_lose_nothing(node: Scene, server: ApiServer, kubeconfig: Path) -> None:
    with node.kiptail(kubeconfig, **WATCHDOG) as kiptail:
        kiptail.wait_for(server.watches, "the pods are watched")
        with server.faults.reset():
            server.disturb("reset")
            outlast(node, kiptail, 5.0)
            assert not server.events()
        wait_until_told(kiptail, server.events)
        assert order(server.events()) == [node.pods[source] for source, _ in NEW_PAIRS], "in order of age"
        assert kiptail.stop() == 0
    assert not miscounted(node.lines(), server.events(), node.pods)


def test_a_certificate_of_another_ca_is_complained_of_until_the_kubeconfig_has_that_ca(
    node: Scene, tmp_path: Path
) -> None:
    with (
        ServerProcess(tmp_path / "cluster", node.pod_objects()) as server,
        node.kiptail(server.kubeconfig, **WATCHDOG) as kiptail,
    ):
        server.kill()
        server.start(ca="renewed")
        outlast(node, kiptail, 5.0)
        kiptail.wait_for(lambda: "is not trusted" in kiptail.log, "the log says so")
        kiptail.wait_for(lambda: any("is not trusted" in note for note in kiptail.notes), "STATUS says so")
        assert not server.events()
        server.trust("renewed")
        # The kubeconfig is looked at every 10 s.
        wait_until_told(kiptail, server.events, timeout=10 + SOON)
        assert order(server.events()) == [node.pods[source] for source, _ in NEW_PAIRS], "in order of age"
        assert kiptail.stop() == 0
        assert not miscounted(node.lines(), server.events(), node.pods)


@pytest.mark.parametrize("where", ["token file", "kubeconfig"])
def test_a_token_that_expires_is_read_again_when_it_has_been_renewed(
    node: Scene, server: ApiServer, tmp_path: Path, where: str
) -> None:
    first, second = server.add_user(USER), server.add_user(USER)
    server.access.revoke_token(second)
    token_file, config = tmp_path / "token", tmp_path / "kubeconfig"

    def write(token: str) -> None:
        token_file.write_text(token)
        new = tmp_path / "kubeconfig.new"
        if where == "token file":
            server.kubeconfig(new, token_file=token_file)
        else:
            server.kubeconfig(new, token=token)
        new.replace(config)

    write(first)
    with node.kiptail(config, **WATCHDOG) as kiptail:
        kiptail.wait_for(server.watches, "the pods are watched")
        server.access.revoke_token(first)
        outlast(node, kiptail, 5.0)
        assert not server.events()
        assert "401" in kiptail.log
        server.access.add_token(User(USER), token=second)
        write(second)
        wait_until_told(kiptail, server.events)
        assert kiptail.stop() == 0
    assert not miscounted(node.lines(), server.events(), node.pods)


def test_a_name_server_that_does_not_answer_delays_and_loses_nothing(
    node: Scene, server: ApiServer, tmp_path: Path
) -> None:
    config = server.kubeconfig(
        tmp_path / "kubeconfig", token=server.add_user(USER), server=f"https://{HOST}:{server.port}"
    )
    address = ".".join(map(str, (127, *(random.randrange(2, 250) for _ in range(3)))))
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text(f"nameserver {address}\n")
    within = ("unshare", "--mount", "--propagation", "private", "sh", "-ec", WITH_RESOLV_CONF, "sh", str(resolv_conf))
    with DnsServer(address, 53) as names:
        names.add(f"{HOST}.", "A", "127.0.0.1")
        names.silence(f"{HOST}.")
        with node.kiptail(config, within=within, **WATCHDOG) as kiptail:
            outlast(node, kiptail, 5.0)
            assert not server.events()
            assert (f"{HOST}.", "A") in names.queries
            names.speak(f"{HOST}.")
            wait_until_told(kiptail, server.events, timeout=2 * SOON)
            assert order(server.events()) == [node.pods[source] for source, _ in NEW_PAIRS], "in order of age"
            assert kiptail.stop() == 0
    assert not miscounted(node.lines(), server.events(), node.pods)
