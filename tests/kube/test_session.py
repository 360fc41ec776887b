"""kubeconfigs that cannot be used, what is made of those that can, and exec plugins."""

from __future__ import annotations

import json
import logging
import ssl
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kiptail.credentials import tls
from kiptail.credentials.kubeconfig import KUBECONFIG_BYTES
from kiptail.errors import ClusterError
from kiptail.kube.api import KubeApi
from tests.apiserver import ApiServer
from tests.apiserver.certificates import authority
from tests.support.kube import (
    RawServer,
    failure,
    kubeconfig,
    list_pods,
    pem,
    reply,
    write,
)

# -- kubeconfigs that cannot be used -----------------------------------------------------------------------------------


UNUSABLE: dict[str, tuple[object, dict[str, str], str]] = {
    "empty": ("", {}, "unusable is empty"),
    "tab": (
        "a:\n\t- b",
        {},
        "not valid YAML: found character '\\t' that cannot start any token in line 2",
    ),
    "binary": ("\x00\x01", {}, "is not valid YAML"),
    "a list": ("[1, 2]", {}, "is not a kubeconfig"),
    "another document": ({"kind": "Pod"}, {}, "unusable: kind and apiVersion are not Config and v1"),
    "nothing of a kubeconfig": ({"prefix": "x"}, {}, "is not a kubeconfig: it lists no clusters"),
    "no current context": (
        {**kubeconfig(), "current-context": ""},
        {},
        "has no current-context (it has one); name one with --context",
    ),
    "unknown context": (kubeconfig(), {"context": "two"}, "has no context 'two' (it has one)"),
    "no contexts": ({**kubeconfig(), "contexts": None}, {}, "has no context 'one' (it has none)"),
    "unknown cluster": ({**kubeconfig(), "clusters": [{"name": "d"}]}, {}, "has no cluster 'c'"),
    "no clusters": ({**kubeconfig(), "clusters": []}, {}, "is not a kubeconfig: it lists no clusters"),
    "unknown user": ({**kubeconfig(), "users": None}, {}, "has no user 'u'"),
    "no server": (kubeconfig(cluster={"x": 1}), {}, "the cluster has no server; give one with --server"),
    "server without scheme": (
        kubeconfig(cluster={"server": "10.0.0.1:6443"}),
        {},
        "the cluster's server is not a URL such as https://10.0.0.1:6443: 10.0.0.1:6443",
    ),
    "server with a bad port": (kubeconfig(cluster={"server": "https://h:99999"}), {}, "is not a URL"),
    "other server is no URL": (kubeconfig(), {"server": "tcp://h:1"}, "--server is not a URL"),
    "CA is missing": (
        kubeconfig(cluster={"server": "https://h", "certificate-authority": "ca.crt"}),
        {},
        "unusable: certificate-authority {dir}/ca.crt does not exist",
    ),
    "CA is no certificate": (
        kubeconfig(cluster={"server": "https://h", "certificate-authority": "unusable"}),
        {},
        "the certificate-authority holds no PEM certificate",
    ),
    "CA data is no base64": (
        kubeconfig(cluster={"server": "https://h", "certificate-authority-data": "%"}),
        {},
        "certificate-authority-data is not base64",
    ),
    "CA data is no certificate": (
        kubeconfig(cluster={"server": "https://h", "certificate-authority-data": "YWJj"}),
        {},
        "the certificate-authority holds no PEM certificate",
    ),
    "token file is missing": (
        kubeconfig(user={"tokenFile": "/nowhere/token"}),
        {},
        "unusable: tokenFile /nowhere/token does not exist",
    ),
    "token file is a directory": (kubeconfig(user={"tokenFile": "/"}), {}, "cannot be read: Is a directory"),
    "token file is empty": (kubeconfig(user={"tokenFile": "/dev/null"}), {}, "/dev/null is empty or holds"),
    "token file is no path": (kubeconfig(user={"tokenFile": 5}), {}, "tokenFile is not a path"),
    "token of two lines": (
        kubeconfig(user={"token": "se\ncret"}),
        {},
        "the user's token is empty or holds blanks",
    ),
    "token is a number": (kubeconfig(user={"token": 5}), {}, "users[0].user.token is not text"),
    "proxy is no URL": (
        kubeconfig(cluster={"server": "https://h", "proxy-url": "ftp://h"}),
        {},
        "the proxy-url ftp://h cannot be used",
    ),
    "client certificate is missing": (
        kubeconfig(user={"client-certificate": "c.crt", "client-key": "c.key"}),
        {},
        "unusable: client-certificate {dir}/c.crt does not exist",
    ),
    "plugin does not exist": (
        kubeconfig(user={"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/nowhere/plugin"}}),
        {},
        "the exec plugin plugin cannot be run: No such file or directory",
    ),
    "plugin without a command": (
        kubeconfig(user={"exec": {"apiVersion": "client.authentication.k8s.io/v1"}}),
        {},
        "the exec plugin has no command",
    ),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_what_is_wrong_with_a_kubeconfig_is_said_in_one_line(case: str, tmp_path: Path) -> None:
    document, options, expected = UNUSABLE[case]
    path = write(tmp_path / "unusable", document)
    with pytest.raises(ClusterError) as caught:
        KubeApi.from_kubeconfig(path, **options)
    text = str(caught.value)
    assert expected.replace("{dir}", str(tmp_path)) in text
    assert "--server" in text or str(path) in text or "token" in text
    assert "\n" not in text
    assert "cret" not in text


def test_a_missing_kubeconfig_is_named_with_the_option(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"kubeconfig .*/none does not exist; name another with --kubeconfig"):
        KubeApi.from_kubeconfig(tmp_path / "none")


def test_a_kubeconfig_that_may_not_be_read_is_told_from_a_missing_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "secret", kubeconfig())

    def refuse(self: Path, *_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything
    with pytest.raises(ClusterError, match=r"secret may not be read by this user \(uid \d+\)"):
        KubeApi.from_kubeconfig(path)


def test_a_kubeconfig_of_many_megabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(KUBECONFIG_BYTES + 1)
    with pytest.raises(ClusterError, match="is larger than 4 MiB"):
        KubeApi.from_kubeconfig(path)


def test_a_yaml_error_does_not_show_the_line(tmp_path: Path) -> None:
    path = write(tmp_path / "k", 'users:\n- user: {token: "hunter2\n\t}')
    with pytest.raises(ClusterError) as caught:
        KubeApi.from_kubeconfig(path)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        ((authority().client("a").certificate, authority().client("b").key), "do not belong together"),
        (
            (authority().client("a").certificate, Path(__file__).parents[1] / "__init__.py"),
            "client certificate and key",
        ),
        ((Path(__file__), authority().client("a").key), "client certificate and key"),
    ],
    ids=["of two pairs", "no key", "no certificate"],
)
def test_client_certificate_that_cannot_be_used(tmp_path: Path, pair: tuple[Path, Path], expected: str) -> None:
    user = {"client-certificate": str(pair[0]), "client-key": str(pair[1])}
    with pytest.raises(ClusterError, match=expected):
        KubeApi.from_kubeconfig(write(tmp_path / "k", kubeconfig(user=user)))


def test_an_encrypted_key_is_an_error_and_no_prompt(tmp_path: Path) -> None:
    pair = authority().client("a")
    encrypted = tmp_path / "encrypted.key"
    command = ["openssl", "pkcs8", "-topk8", "-in", pair.key, "-passout", "pass:secret", "-out", encrypted]
    subprocess.run(command, check=True, capture_output=True, timeout=20)
    user = {"client-certificate": str(pair.certificate), "client-key": str(encrypted)}
    with pytest.raises(ClusterError, match="cannot be used: the key is encrypted"):
        KubeApi.from_kubeconfig(write(tmp_path / "k", kubeconfig(user=user)))


# -- credentials -------------------------------------------------------------------------------------------------------


def test_context_and_server_override_the_kubeconfigs(server: ApiServer, tmp_path: Path) -> None:
    document = json.loads(server.kubeconfig(tmp_path / "k").read_text())
    document["contexts"].append({"name": "other", "context": {"cluster": "gone", "user": "test"}})
    document["clusters"].append({"name": "gone", "cluster": {**document["clusters"][0]["cluster"]}})
    document["clusters"][1]["cluster"]["server"] = "http://127.0.0.1:1/"
    path = write(tmp_path / "k", document)
    assert KubeApi.from_kubeconfig(path, context="other").server == "http://127.0.0.1:1"
    api = KubeApi.from_kubeconfig(path, context="other", server=f"{server.url}/")
    assert api.server == server.url
    assert list_pods(api)["items"] == []  # with the CA, though the kubeconfig's own server has no TLS
    api.close()


def test_a_colon_in_the_path_is_no_separator(server: ApiServer, tmp_path: Path) -> None:
    (tmp_path / "a:b").mkdir()
    api = KubeApi.from_kubeconfig(server.kubeconfig(tmp_path / "a:b" / "k"))
    list_pods(api)
    api.close()


@pytest.mark.parametrize("how", ["data", "files", "one file", "DER"])
def test_the_node_is_known_from_a_kubelets_certificate(how: str, tmp_path: Path) -> None:
    pair = authority().client("system:node:worker-7", "system:nodes")
    if how == "data":
        user = {"client-certificate-data": pem(pair.certificate), "client-key-data": pem(pair.key)}
    elif how == "files":
        user = {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
    else:
        both = tmp_path / "current.pem"
        both.write_bytes(pair.key.read_bytes() + pair.certificate.read_bytes())
        user = {
            "client-certificate": "current.pem",
            "client-key": "current.pem",
        }  # relative to the kubeconfig
    api = KubeApi.from_kubeconfig(write(tmp_path / "k", kubeconfig(user=user)))
    assert (api.user_name, api.node_name) == ("system:node:worker-7", "worker-7")
    if how == "DER":
        der = ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())
        assert tls.common_name(der) == "system:node:worker-7"
        assert all(tls.common_name(der[:length]) is None for length in range(len(der) // 3))


def test_no_node_without_such_a_certificate(tmp_path: Path) -> None:
    assert KubeApi.from_kubeconfig(write(tmp_path / "k", kubeconfig(user={"token": "t"}))).user_name is None
    pair = authority().client("kiptail")
    user = {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
    api = KubeApi.from_kubeconfig(write(tmp_path / "k", kubeconfig(user=user)))
    assert (api.user_name, api.node_name) == ("kiptail", None)


@pytest.mark.parametrize("user", [{"client": ("ann", "system:masters")}, {}], ids=["certificate", "token"])
def test_inline_secrets_are_not_left_on_disk(
    user: dict[str, Any], opened: Callable[..., KubeApi], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "tmp"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    api = opened(**user)
    assert list(directory.iterdir()) == []
    list_pods(api)
    api.reload()
    list_pods(api)
    assert list(directory.iterdir()) == []


def test_tls_server_name_is_what_the_certificate_has_to_be_for(server: ApiServer, tmp_path: Path) -> None:
    document = json.loads(server.kubeconfig(tmp_path / "k").read_text())
    cluster = document["clusters"][0]["cluster"]
    cluster["tls-server-name"] = "kubernetes.default.svc"
    api = KubeApi.from_kubeconfig(write(tmp_path / "k", document))
    list_pods(api)
    cluster["tls-server-name"] = "elsewhere.example"
    write(tmp_path / "k", document)
    api.reload()
    error = failure(lambda: list_pods(api))
    assert error.untrusted
    assert "is not trusted: its certificate is for another name" in str(error)
    api.close()


def test_requests_go_through_the_proxy_of_the_kubeconfig(tmp_path: Path) -> None:
    with RawServer(reply(b"", status="502 No route")) as proxy:
        cluster = {"server": "http://cluster.invalid", "proxy-url": proxy.url}
        api = KubeApi.from_kubeconfig(write(tmp_path / "k", kubeconfig(cluster=cluster)))
        assert failure(lambda: list_pods(api)).status == 502
        assert proxy.heads[0].startswith("GET http://cluster.invalid/api/v1/pods?")
        api.close()


@pytest.mark.parametrize(
    ("user", "header"),
    [
        ({"username": "ann", "password": "p w"}, "authorization: basic yw5uonagdw=="),
        ({"username": "ann", "password": "p w", "token": " secret\n"}, "authorization: bearer secret"),
        ({"username": "ann"}, ""),
    ],
    ids=["name and password", "token as well", "no password"],
)
def test_what_the_user_says_of_himself(user: dict[str, str], header: str, tmp_path: Path) -> None:
    with RawServer(reply(b"", status="502 No route")) as server:
        path = write(tmp_path / "k", kubeconfig(cluster={"server": server.url}, user=user))
        api = KubeApi.from_kubeconfig(path)
        assert failure(lambda: list_pods(api)).status == 502
        lines = [line.lower() for line in server.heads[0].splitlines()]
        assert [line for line in lines if line.startswith("authorization")] == ([header] if header else [])
        api.close()


def test_a_wrong_ca_and_a_missing_one_are_untrusted(opened: Callable[..., KubeApi]) -> None:
    for ca in ("wrong", "none"):
        error = failure(lambda: list_pods(opened(ca=ca)))  # noqa: B023 - called at once
        assert error.untrusted
        assert error.unreachable
        assert "is not signed by the certificate authority in the kubeconfig" in str(error)


def test_an_expired_certificate_is_untrusted(tmp_path: Path) -> None:
    pair = expired_certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*pair)
    with RawServer(reply(b"{}"), tls) as server:
        cluster = {"server": server.url, "certificate-authority": str(pair[0])}
        api = KubeApi.from_kubeconfig(write(tmp_path / "k", kubeconfig(cluster=cluster)))
        error = failure(lambda: list_pods(api))
        assert error.untrusted
        assert "its certificate has expired" in str(error)
        api.close()


def expired_certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, signed by itself, of the year 2020, and its key."""
    config, request = directory / "cnf", directory / "csr"
    key, certificate = directory / "old.key", directory / "old.crt"
    config.write_text(
        "[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nCN=old\n[ca]\ndefault_ca=d\n[p]\ncommonName=supplied\n"
        f"[d]\ndatabase={directory}/db\nserial={directory}/serial\nnew_certs_dir={directory}\n"
        "default_md=sha256\npolicy=p\nx509_extensions=e\n"
        "[e]\nsubjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:TRUE\n"
    )
    (directory / "db").touch()
    (directory / "serial").write_text("01\n")
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(key)]
    dates = ["-startdate", "20200101000000Z", "-enddate", "20200102000000Z"]
    files = ["-in", str(request), "-out", str(certificate)]
    for command in (
        ["req", "-new", "-config", str(config), *new_key, "-out", str(request)],
        ["ca", "-batch", "-selfsign", "-notext", "-config", str(config), "-keyfile", str(key), *dates, *files],
    ):
        subprocess.run(["openssl", *command], check=True, capture_output=True, timeout=20)
    return certificate, key


def test_without_verification_one_warning_is_logged_and_nothing_else(
    opened: Callable[..., KubeApi], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as caught:
        api = opened(ca="insecure")
        list_pods(api)
        api.reload()
        list_pods(api)
    assert [record.getMessage() for record in caplog.records] == [
        f"insecure-skip-tls-verify: anybody between here and {api.server} can read the token"
    ]
    assert not caught
    assert capfd.readouterr() == ("", "")


def test_nothing_of_the_libraries_reaches_the_log(
    opened: Callable[..., KubeApi], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    api = opened(client=("ann", "system:masters"))
    list_pods(api)
    document = json.loads((tmp_path / "kubeconfig").read_text())
    document["clusters"][0]["cluster"]["tls-server-name"] = "elsewhere.example"
    write(tmp_path / "kubeconfig", document)
    api.reload()
    failure(lambda: list_pods(api))
    assert caplog.records == []
