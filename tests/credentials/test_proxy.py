"""Proxies on the way to the API server: which, with which password, and that nobody reads it in a message."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kiptail.credentials.kubeconfig import Entry
from kiptail.credentials.proxy import proxy_of
from kiptail.errors import ClusterError
from kiptail.kube.api import KubeApi
from kiptail.kube.session import open_session
from tests.apiserver import ApiServer
from tests.apiserver.certificates import authority, wrong_authority
from tests.support.journald import export_to_journal, kernel_entry
from tests.support.kube import RawServer, failure, kubeconfig, list_pods, pem, reply, server_tls, watch, write
from tests.support.kube import server as server  # noqa: PLC0414 - a fixture
from tests.support.proxy import Proxy
from tests.support.running import run_kiptail

SECRET = "hun/ter@2:%\u4e2d"
#: As it has to be written in a URL.
WRITTEN = "hun%2Fter%402%3A%25%E4%B8%AD"
HEADER = "Basic " + base64.b64encode(f"ann:{SECRET}".encode()).decode()
VARIABLES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy(wants=HEADER, hosts={"kubernetes": "127.0.0.1"}) as proxy:
        yield proxy


def through(api: ApiServer, directory: Path, url: str | None, **cluster: Any) -> Path:
    document = json.loads(api.kubeconfig(directory / "k").read_text())
    document["clusters"][0]["cluster"] |= {"proxy-url": url} if url else {}
    document["clusters"][0]["cluster"] |= cluster
    return write(directory / "k", document)


def test_user_and_password_go_to_the_proxy_and_to_nobody_else(server: ApiServer, proxy: Proxy, tmp_path: Path) -> None:
    api = KubeApi.from_kubeconfig(through(server, tmp_path, f"http://ann:{WRITTEN}@{proxy.address}"))
    assert list_pods(api)["items"] == []
    with watch(api, timeout_s=1) as lines:
        list(lines)
    assert set(proxy.asked) == {("CONNECT", server.url.removeprefix("https://"), HEADER)}
    assert all("Proxy-Authorization" not in request.headers for request in server.requests())
    api.close()


def test_to_a_server_without_tls_too(proxy: Proxy, tmp_path: Path) -> None:
    user = {"token": "t", "as": "ann", "as-groups": ["a, b", "c"]}
    with RawServer(reply(b"", status="502 No route")) as server:
        cluster = {"server": server.url, "proxy-url": f"http://ann:{WRITTEN}@{proxy.address}"}
        api = KubeApi.from_kubeconfig(write(tmp_path / "k", kubeconfig(cluster=cluster, user=user)))
        assert failure(lambda: list_pods(api)).status == 502
        lines = server.heads[0].split("\r\n")
        assert [line.partition(": ")[2] for line in lines if line.lower().startswith("impersonate-group")] == [
            "a, b",
            "c",
        ]
        assert [line for line in lines if line.lower().startswith("accept:")] == ["Accept: application/json"]
        assert [asked[2] for asked in proxy.asked] == [HEADER]
        api.close()


@pytest.mark.parametrize("user", ["", "ann@", "ann:wrong@"])
def test_what_a_proxy_refuses_is_told_with_what_to_do(
    user: str, server: ApiServer, proxy: Proxy, tmp_path: Path
) -> None:
    api = KubeApi.from_kubeconfig(through(server, tmp_path, f"http://{user}{proxy.address}"))
    error = failure(lambda: list_pods(api))
    assert "the proxy answers 407 Proxy Authentication Required: it wants a user and password" in str(error)
    assert error.transient
    assert "wrong" not in str(error)
    api.close()


def test_a_proxy_that_is_away_is_told_from_a_server_that_is(server: ApiServer, tmp_path: Path) -> None:
    api = KubeApi.from_kubeconfig(through(server, tmp_path, "http://ann:hunter2@127.0.0.1:1"))
    error = failure(lambda: list_pods(api))
    assert str(error).endswith(": the proxy: Connection refused")
    api.close()


@pytest.mark.parametrize("ca", ["the cluster's", "another's", "nobody's, unverified"])
def test_a_proxy_with_tls_is_verified_as_the_server_is(ca: str, server: ApiServer, tmp_path: Path) -> None:
    with Proxy(wants=HEADER, tls=server_tls(), hosts={"kubernetes": "127.0.0.1"}) as proxy:
        cluster: dict[str, Any] = {"certificate-authority-data": pem(authority().certificate)}
        if ca == "another's":
            cluster["certificate-authority-data"] = pem(wrong_authority().certificate)
        elif ca != "the cluster's":
            cluster = {"certificate-authority-data": None, "insecure-skip-tls-verify": True}
        path = through(server, tmp_path, f"https://ann:{WRITTEN}@{proxy.address}", **cluster)
        api = KubeApi.from_kubeconfig(path)
        if ca == "another's":
            assert failure(lambda: list_pods(api)).untrusted
            assert proxy.asked == [], "nobody got the password"
        else:
            assert list_pods(api)["items"] == []
            with watch(api, timeout_s=1) as lines:
                list(lines)
            assert proxy.asked[0][2] == HEADER
        api.close()


def test_a_proxy_whose_certificate_is_for_another_name_gets_no_password(server: ApiServer, tmp_path: Path) -> None:
    with Proxy(wants=HEADER, tls=server_tls(), at="127.0.0.2") as proxy:
        url = f"https://ann:{WRITTEN}@{proxy.address}"
        api = KubeApi.from_kubeconfig(through(server, tmp_path, url))
        error = failure(lambda: list_pods(api))
        assert error.untrusted
        assert "is not trusted: its certificate is for another name" in str(error)
        assert "127.0.0.2" in str(error)
        assert proxy.asked == []
        api.close()


def test_a_proxy_of_the_environment_is_used_as_kubectl_does(
    server: ApiServer, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://ann:{WRITTEN}@{proxy.address}")
    name = server.url.replace("127.0.0.1", "kubernetes")
    api = KubeApi.from_kubeconfig(through(server, tmp_path, None, server=name))
    assert list_pods(api)["items"] == []
    assert proxy.asked == [("CONNECT", name.removeprefix("https://"), HEADER)]
    api.close()
    api = KubeApi.from_kubeconfig(through(server, tmp_path, None))
    assert list_pods(api)["items"] == []
    assert len(proxy.asked) == 1, "not to this machine"
    api.close()


#: Of Go's httpproxy: the environment, the server, and the proxy that is used.
P, Q = "http://p:1", "http://q:2"
ENVIRONMENTS: list[tuple[dict[str, str], str, str | None]] = [
    ({}, "https://h:6443", None),
    ({"HTTPS_PROXY": P}, "https://h:6443", P),
    ({"https_proxy": P}, "https://h:6443", P),
    ({"HTTPS_PROXY": Q, "https_proxy": P}, "https://h:6443", Q),
    ({"HTTPS_PROXY": "", "https_proxy": P}, "https://h:6443", P),
    ({"HTTP_PROXY": P}, "https://h:6443", None),
    ({"HTTPS_PROXY": P}, "http://h:6443", None),
    ({"HTTP_PROXY": P, "HTTPS_PROXY": Q}, "http://h", P),
    ({"ALL_PROXY": P}, "https://h", None),
    ({"HTTPS_PROXY": "p:1"}, "https://h", P),
    ({"HTTPS_PROXY": "p"}, "https://h", "http://p"),
    ({"HTTPS_PROXY": f" {P} "}, "https://h", P),
    ({"HTTPS_PROXY": "https://ann:x@p:1/path"}, "https://h", "https://p:1"),
    ({"HTTPS_PROXY": "http://[::1]:1"}, "https://h", "http://[::1]:1"),
    *(({"HTTPS_PROXY": P}, f"https://{host}:6443", None) for host in ("localhost", "127.1.2.3", "[::1]")),
    *(
        ({"HTTPS_PROXY": P, "NO_PROXY": exception}, "https://api.example.org:6443", None)
        for exception in (
            "*", "api.example.org", "API.example.org", "example.org", ".example.org", "*.example.org", "x, org ,y",
            "example.org:6443",
        )
    ),
    *(
        ({"HTTPS_PROXY": P, "NO_PROXY": exception}, "https://api.example.org:6443", P)
        for exception in (
            "", ",", "ample.org", "example.org:443", "10.0.0.0/8", ".api.example.org", "*.api.example.org",
        )
    ),
    *(
        ({"HTTPS_PROXY": P, "no_proxy": exception}, "https://10.96.0.1:443", None)
        for exception in ("10.96.0.1", "10.0.0.0/8", "10.96.0.1:443", "10.1.2.3/8", "fd00::/8,10.96.0.1/32", "0.1")
    ),
    *(
        ({"HTTPS_PROXY": P, "no_proxy": exception}, "https://10.96.0.1", P)
        for exception in ("10.96.0.10", "10.96.0.1:80", ".0.1.", "fd00::/8", "10.96.0.0/33")
    ),
    ({"HTTPS_PROXY": P, "no_proxy": "fd00::1"}, "https://[fd00::1]:6443", None),
    ({"HTTPS_PROXY": P, "no_proxy": "[fd00::1]:6443"}, "https://[fd00::1]:6443", None),
    ({"HTTPS_PROXY": P, "no_proxy": "[fd00::1]:1"}, "https://[fd00::1]:6443", P),
    ({"HTTPS_PROXY": P, "no_proxy": "fd00::/16"}, "https://[fd00::1]:6443", None),
    ({"HTTPS_PROXY": P, "no_proxy": "example.org"}, "https://example.org", None),
    ({"HTTPS_PROXY": P, "no_proxy": ".example.org"}, "https://example.org", P),
    ({"HTTPS_PROXY": P, "no_proxy": "*.example.org"}, "https://example.org", P),
]  # fmt: skip


@pytest.mark.parametrize(("environ", "server", "url"), ENVIRONMENTS, ids=[str(row[:2]) for row in ENVIRONMENTS])
def test_which_proxy_the_environment_names(environ: dict[str, str], server: str, url: str | None) -> None:
    chosen = proxy_of(Entry(Path("/k"), {}), server, environ)
    assert (chosen.url if chosen else None) == url
    mine = proxy_of(Entry(Path("/k"), {"proxy-url": "http://mine:3"}), server, environ)
    assert mine is not None
    assert mine.url == "http://mine:3", "the kubeconfig's wins, whatever NO_PROXY says"


UNUSABLE = [
    "https:///", "http://", "http://ann:hunter2@", "//h:1", "h:1", "socks5://h:1", "socks5://ann:hunter2@h", "socks5h://h",
    "ftp://ann:hunter2@h", "http://h:0", "http://h:99999", "http://h:x", "http://a b", "http://a..b", "http://[", "x",
    "http://ann:hun/hunter2@h", "http://ann:#hunter2@h", "http://ann:?hunter2@h", "ann:hunter2@h:1", "http://h\n",
    "http://ann:hunter2\n@h", "http://ann:" + "hunter2" * 300 + "@h:x", "http://\ud800",
]  # fmt: skip


@pytest.mark.parametrize("url", UNUSABLE)
@pytest.mark.parametrize("place", ["kubeconfig", "environment"])
def test_a_proxy_that_cannot_be_used_is_one_line(
    url: str, place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    if place == "environment" and url in ("h:1", "x", "ann:hunter2@h:1", "http://h\n"):
        return  # there they are good
    cluster = {"server": "https://h:6443"} | ({"proxy-url": url} if place == "kubeconfig" else {})
    path = write(tmp_path / "k", kubeconfig(cluster=cluster))
    with pytest.raises(ClusterError) as caught:
        open_session([path], None, None, environ={"HTTPS_PROXY": url} if place == "environment" else {})
    text = str(caught.value)
    assert "hunter2" not in text + caplog.text
    assert text.isprintable()
    assert "cannot be used: " in text
    assert (f"{path}: the proxy-url" if place == "kubeconfig" else "the proxy in $HTTPS_PROXY") in text


@pytest.mark.parametrize("url", ["socks5://ann:hunter2@h:1", "http://ann:hunter2@127.0.0.1:1"])
def test_the_command_line_shows_no_password_of_a_proxy(url: str, server: ApiServer, tmp_path: Path) -> None:
    path = through(server, tmp_path, url)
    common = ("--kubeconfig", path, "--state-directory", tmp_path / "s")
    (tmp_path / "journal").mkdir()
    export_to_journal([kernel_entry("x", realtime_us=1, monotonic_us=1)], tmp_path / "journal" / "system.journal")
    journal = ("--no-follow", "--prefix", "x:", "--journal-directory", tmp_path / "journal")
    for command in (
        ("check", *common),
        ("--dry-run", *journal, "--log-level", "debug", *common),
        ("kubeconfig", "--kubeconfig", path, "--out", tmp_path / "out"),
    ):
        done = run_kiptail(*command)
        said = done.stdout.decode() + done.stderr.decode()
        assert "proxy" in said
        assert "Traceback" not in said
        assert "hunter2" not in said
