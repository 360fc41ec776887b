"""Credentials that change while the API client uses them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kiptail.credentials import files
from kiptail.errors import ClusterError
from kiptail.kube.api import KubeApi
from tests.apiserver import ApiServer
from tests.apiserver.certificates import authority
from tests.support.kube import (
    credential,
    failure,
    list_pods,
    plugin,
    write,
)


def test_a_token_file_is_read_again_when_it_changes(
    server: ApiServer, opened: Callable[..., KubeApi], tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(f"  {server.add_user('first', 'system:masters')}\n\n")
    api = opened(token_file=file, files_check_s=1000)
    list_pods(api)
    fresh = tmp_path / "fresh"
    fresh.write_text(server.add_user("second", "system:masters") + "\n")
    fresh.rename(file)
    list_pods(api)
    file.unlink()
    list_pods(api)  # with the last one
    assert [request.user for request in server.requests()] == ["first", "second", "second"]


def test_a_token_file_that_looks_the_same_is_read_again_after_a_minute(
    server: ApiServer, opened: Callable[..., KubeApi], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "stamp", lambda path: (1, 2, 3))
    file = tmp_path / "token"
    file.write_text(server.add_user("first", "system:masters"))
    api = opened(token_file=file)
    list_pods(api)
    file.write_text(server.add_user("second", "system:masters"))
    list_pods(api)
    monkeypatch.setattr(files, "TOKEN_READ_S", 0.0)
    list_pods(api)
    assert [request.user for request in server.requests()] == ["first", "first", "second"]


def test_after_a_401_a_renewed_token_file_is_used(
    server: ApiServer, opened: Callable[..., KubeApi], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "stamp", lambda path: (1, 2, 3))  # the change goes unnoticed
    file = tmp_path / "token"
    old = server.add_user("first", "system:masters")
    file.write_text(old)
    api = opened(token_file=file)
    list_pods(api)
    server.access.revoke_token(old)
    file.write_text(server.add_user("second", "system:masters") + "\n")
    list_pods(api)
    assert [request.status for request in server.requests()] == [200, 401, 200]


def test_one_reload_serves_all_threads_that_got_a_401(server: ApiServer, tmp_path: Path) -> None:
    old, new = (server.add_user(name, "system:masters") for name in ("old", "new"))
    runs, token = tmp_path / "runs", tmp_path / "token"
    token.write_text(old)
    script = f"echo run >> {runs}\n" + credential(token="@").replace("'END'", f"'END' | sed s/@/$(cat {token})/")
    path = server.kubeconfig(tmp_path / "k", user=plugin(tmp_path / "plugin", script))
    api = KubeApi.from_kubeconfig(path)
    list_pods(api)
    server.access.revoke_token(old)
    token.write_text(new)
    # All four are refused before one of them reloads.
    with server.faults.delay(0.2, match=lambda request: request.headers["Authorization"] == f"Bearer {old}"):
        threads = [threading.Thread(target=list_pods, args=(api,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(server.requests(user="new", status=200)) == 4
    assert runs.read_text() == "run\n" * 2
    api.close()


def test_a_second_401_is_told_with_what_the_reload_met(
    server: ApiServer, opened: Callable[..., KubeApi], tmp_path: Path
) -> None:
    api = opened(token="wrong", files_check_s=1000)
    error = failure(lambda: list_pods(api))
    assert (error.status, error.reason, error.transient) == (401, "Unauthorized", False)
    assert len(server.requests(status=401)) == 2
    (tmp_path / "kubeconfig").unlink()
    error = failure(lambda: list_pods(api))
    assert error.status == 401
    assert "answered 401: Unauthorized, and the kubeconfig" in str(error)
    assert "wrong" not in str(error)


def test_a_rotated_client_certificate_is_noticed(server: ApiServer, tmp_path: Path) -> None:
    link = tmp_path / "current.pem"

    def rotate(name: str) -> None:
        pair = authority().client(name, "system:masters")
        target = tmp_path / f"{name}.pem"
        target.write_bytes(pair.certificate.read_bytes() + pair.key.read_bytes())
        (tmp_path / "new").symlink_to(target)
        (tmp_path / "new").rename(link)

    rotate("one")
    user = {"client-certificate": str(link), "client-key": str(link)}
    api = KubeApi.from_kubeconfig(server.kubeconfig(tmp_path / "k", user=user), files_check_s=0)
    list_pods(api)
    rotate("two")
    list_pods(api)
    assert api.user_name == "two"
    assert [request.user for request in server.requests()] == ["one", "two"]
    api.close()


def test_files_are_looked_at_once_in_a_while(server: ApiServer, tmp_path: Path) -> None:
    path = server.kubeconfig(tmp_path / "k")
    api = KubeApi.from_kubeconfig(path, files_check_s=0.3)
    server.kubeconfig(path, token=server.add_user("second", "system:masters"))
    list_pods(api)
    time.sleep(0.3)
    list_pods(api)
    assert [request.user for request in server.requests()] == ["kubernetes-admin", "second"]
    api.close()


def test_a_kubeconfig_that_is_broken_meanwhile_leaves_the_old_credentials(
    server: ApiServer, opened: Callable[..., KubeApi], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api = opened(files_check_s=0)
    write(tmp_path / "kubeconfig", "[")
    list_pods(api)
    list_pods(api)
    assert len(caplog.records) == 1
    assert "still using the old credentials: the kubeconfig" in caplog.text
    with pytest.raises(ClusterError, match="not valid YAML"):
        api.reload()
    server.kubeconfig(tmp_path / "kubeconfig", token=server.add_user("second", "system:masters"))
    list_pods(api)
    assert server.requests()[-1].user == "second"
