"""Exec plugins and auth providers: what they give, what they may take, and that nothing of them stays."""

from __future__ import annotations

import json
import logging
import os
import pty
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kiptail.credentials import plugin as plugins
from kiptail.errors import ApiError, ClusterError
from kiptail.kube import session as sessions
from kiptail.kube.api import KubeApi
from kiptail.program import GRACE_S
from tests.apiserver import ApiServer
from tests.apiserver.certificates import authority
from tests.support.journald import export_to_journal, kernel_entry, until
from tests.support.kube import credential, kubeconfig, list_pods, pem, plugin, write
from tests.support.processes import gone
from tests.support.running import Kiptail, run_kiptail, without_room

#: What a plugin may take here, in seconds; and what "at once" may take beyond that.
SHORT, AT_ONCE = 0.3, 1.5
V1 = "client.authentication.k8s.io/v1"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "EXEC_TIMEOUT_S", SHORT)


def refusal(user: dict[str, Any], directory: Path, **cluster: Any) -> str:
    """Why there is no session."""
    document = kubeconfig(user=user, cluster={"server": "https://127.0.0.1:6443", **cluster})
    with pytest.raises(ClusterError) as caught:
        KubeApi.from_kubeconfig(write(directory / "k", document))
    text = str(caught.value)
    assert "\n" not in text
    assert "hunter2" not in text
    assert text.startswith(f"the kubeconfig {directory}/k: ")
    return text.removeprefix(f"the kubeconfig {directory}/k: ")


# -- what is wrong is one line, in time, and nothing stays -------------------------------------------------------------

GOOD = credential(token="hunter2")
LATE = f"took longer than {SHORT:g} s"
FLOOD = "head -c 300000000 /dev/zero"
HOSTILE: dict[str, tuple[str, str]] = {
    "sleeps": ("sleep 60", LATE),
    "sleeps and ignores SIGTERM": ("trap '' TERM; sleep 60 & wait; sleep 60", LATE),
    "sleeps after its answer": (f"{GOOD}\nsleep 60", LATE),
    "a child sleeps": ("(sleep 60) & wait", LATE),
    "floods its output": (FLOOD, "printed more than 1 MiB"),
    "floods its standard error": (f"{FLOOD} >&2", "printed more than 1 MiB"),
    "floods for ever": ("yes hunter2", "printed more than 1 MiB"),
    "a child floods when it is over": (f"{FLOOD} & sleep 0.1; exit 0", "printed more than 1 MiB"),
    "drips": ("while :; do printf x; sleep 0.05; done", LATE),
    "fails": ("echo 'cannot reach the\nlogin server' >&2; exit 4", "ended with 4: cannot reach the login server"),
    "fails without a word": ("exit 3", "ended with 3"),
    "dies by a signal": ("kill -SEGV $$", "was ended by SIGSEGV"),
    "dies by a signal that has no name": ("kill -35 $$", "was ended by signal 35"),
    "complains in no encoding": ("printf '\\377\\000\\033[31m' >&2; exit 1", "ended with 1: � [31m"),
    "prints nothing": ("", "something that is not JSON"),
    "prints no JSON": ("echo token: hunter2", "something that is not JSON"),
    "prints JSON twice": (f"{GOOD}\n{GOOD}", "something that is not JSON"),
    "prints no UTF-8": ('printf \'{"kind": "\\377\\377"}\'', "something that is not JSON"),
    "prints NULs": ("head -c 1000 /dev/zero", "something that is not JSON"),
    "nests deeply": ("head -c 500000 /dev/zero | tr '\\0' '['", "something that is not JSON"),
    "prints a long number": ("head -c 10000 /dev/zero | tr '\\0' '9'", "something that is not JSON"),
    "prints a list": ("echo '[]'", "did not print an ExecCredential with a status"),
    "another kind": (
        'echo \'{"apiVersion": "v1", "kind": "Pod", "status": {"token": "hunter2"}}\'',
        "did not print an ExecCredential with a status",
    ),
    "no status": (f'echo \'{{"apiVersion": "{V1}", "kind": "ExecCredential"}}\'', "with a status"),
    "a status of a wrong type": (
        f'echo \'{{"apiVersion": "{V1}", "kind": "ExecCredential", "status": "hunter2"}}\'',
        "with a status",
    ),
    "another version": (GOOD.replace("/v1", "/v1beta1"), f"did not print an ExecCredential of {V1}"),
    "nothing": (credential(other="x"), "gave neither a token nor a certificate"),
    "empty token": (credential(token=""), "gave neither a token nor a certificate"),
    "token of two words": (credential(token="hunter2 b"), "its token is empty or holds blanks or control characters"),
    "token with a newline": (credential(token="hunter2\n x"), "its token is empty or holds blanks"),
    "token with a surrogate": (credential(token="hunter2\ud800"), "its token is empty or holds blanks"),
    "token of another type": (credential(token=["hunter2"]), "its token is no text"),  # type: ignore[arg-type]
    "a certificate without a key": (credential(clientCertificateData="x"), "gave a certificate without a key"),
    "a key without a certificate": (credential(token="t", clientKeyData="hunter2"), "a key without a certificate"),
    "no certificate": (
        credential(clientCertificateData="x", clientKeyData="hunter2"),
        "the client certificate and key cannot be used",
    ),
    "a surrogate for a certificate": (
        credential(clientCertificateData="\ud800", clientKeyData="hunter2"),
        "the client certificate and key cannot be used",
    ),
    "expires some time": (credential(token="t", expirationTimestamp="soon"), "its expirationTimestamp is no time"),
    "expires without a zone": (
        credential(token="t", expirationTimestamp="2030-01-01T00:00:00"),
        "its expirationTimestamp is no time",
    ),
    "expires on the 31st of February": (
        credential(token="t", expirationTimestamp="2030-02-31T00:00:00Z"),
        "its expirationTimestamp is no time",
    ),
    "expires by a number": (credential(token="t", expirationTimestamp=5), "its expirationTimestamp is no text"),  # type: ignore[arg-type]
}


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("case", HOSTILE)
def test_a_plugin_that_cannot_be_used_is_one_line_in_time(
    case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script, expected = HOSTILE[case]
    user = plugin(tmp_path / "plugin", f"echo $$ >{tmp_path}/pid\n{script}")
    handlers = list(logging.getLogger().handlers)
    began = time.monotonic()
    text = refusal(user, tmp_path)
    assert time.monotonic() - began < SHORT + GRACE_S + AT_ONCE
    assert expected in text
    until(lambda: gone(int((tmp_path / "pid").read_text())), "none of them is left")
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger().handlers == handlers


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("script", "in_group"),
    [
        (f"sleep 60 &\n{GOOD}", True),
        (f"(trap '' TERM HUP; sleep 60; sleep 60) &\n{GOOD}", True),
        (f"setsid sleep 2 &\n{GOOD}", False),
        (f"{GOOD}\nexec 1>&-\nexit 0", True),
    ],
    ids=["a child keeps it open", "a stubborn child", "a child with its own session", "it closes it itself"],
)
def test_an_answer_is_an_answer_whoever_keeps_the_output_open(script: str, in_group: bool, tmp_path: Path) -> None:
    user = plugin(tmp_path / "plugin", f"echo $$ >{tmp_path}/pid\n{script}")
    began = time.monotonic()
    KubeApi.from_kubeconfig(write(tmp_path / "k", kubeconfig(user=user))).close()
    assert time.monotonic() - began < SHORT + AT_ONCE
    if in_group:
        until(lambda: gone(int((tmp_path / "pid").read_text())), "none of them is left")


UNUSABLE: dict[str, tuple[dict[str, Any], str]] = {
    "no such program": ({"command": "/nowhere/plugin"}, "the exec plugin plugin cannot be run: No such file"),
    "nor in the path": ({"command": "no-such-plugin"}, "the exec plugin no-such-plugin cannot be run: No such file"),
    "a hint": (
        {"command": "no-such-plugin", "installHint": "get it\nfrom example.com"},
        "cannot be run: No such file or directory; get it from example.com",
    ),
    "not executable": ({"command": "/etc/passwd"}, "the exec plugin passwd cannot be run: Permission denied"),
    "a directory": ({"command": "/"}, "cannot be run: Permission denied"),
    "a NUL": ({"command": "a\0b"}, "cannot be run: embedded null byte"),
    "a surrogate": ({"command": "/bin/true", "args": ["\ud800"]}, "cannot be run: "),
    "no program": ({"command": None}, "the exec plugin has no command"),
    "a list for a program": ({"command": ["x"]}, "exec.command is not text"),
    "arguments in the command": ({"command": "no-such --token hunter2"}, "the exec plugin no-such cannot be run"),
    "an old version": ({"apiVersion": "client.authentication.k8s.io/v1alpha1"}, "apiVersion is neither"),
    "arguments are text": ({"args": "hunter2"}, "args is not a list of texts"),
    "arguments are numbers": ({"args": [1]}, "exec.args[0] is not text"),
    "too many arguments": ({"args": ["hunter2" * 50_000]}, "cannot be run: Argument list too long"),
    "a map for an environment": ({"env": {"hunter2": "x"}}, "env is not a list of names and values"),
    "an environment of texts": ({"env": ["A=hunter2"]}, "exec.env[0] is not a mapping"),
    "a name with a sign": ({"env": [{"name": "A=B", "value": "x"}]}, "env is not a list of names and values"),
    "a value with a NUL": ({"env": [{"name": "A", "value": "hunter2\0"}]}, "cannot be run: embedded null byte"),
    "a terminal is wanted": ({"interactiveMode": "Always"}, "wants a terminal (interactiveMode: Always)"),
    "an unknown mode": ({"interactiveMode": "Maybe"}, "interactiveMode is neither"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_what_is_wrong_with_a_plugins_configuration(case: str, tmp_path: Path) -> None:
    more, expected = UNUSABLE[case]
    assert expected in refusal({"exec": {"apiVersion": V1, "command": "/bin/true", **more}}, tmp_path)


@pytest.mark.parametrize("exec_", [5, "x", ["x"]])
def test_a_plugin_is_a_mapping(exec_: object, tmp_path: Path) -> None:
    assert refusal({"exec": exec_}, tmp_path) == "users[0].user.exec is not a mapping"


# -- what a plugin is told, and what is made of what it says -----------------------------------------------------------


def test_a_plugin_is_told_what_kubectl_tells(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    script = f'echo "$KUBERNETES_EXEC_INFO" >{tmp_path}/info; echo "$1 $COLOUR $HOME" >{tmp_path}/said\n'
    script += credential(token="t").replace("/v1", "/v1beta1")
    user = plugin(
        tmp_path / "bin" / "plugin",
        script,
        apiVersion=f"{V1}beta1",
        args=["one"],
        env=[{"name": "COLOUR", "value": "red"}],
        provideClusterInfo=True,
        interactiveMode="Never",
    )
    user["exec"]["command"] = "bin/plugin"  # relative to the kubeconfig
    cluster = {
        "server": "https://127.0.0.1:6443/",
        "certificate-authority": str(authority().certificate),
        "tls-server-name": "kubernetes",
        "extensions": [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}}],
    }
    KubeApi.from_kubeconfig(write(tmp_path / "k", kubeconfig(user=user, cluster=cluster))).close()
    assert json.loads((tmp_path / "info").read_text()) == {
        "kind": "ExecCredential",
        "apiVersion": f"{V1}beta1",
        "spec": {
            "interactive": False,
            "cluster": {
                "server": "https://127.0.0.1:6443",
                "certificate-authority-data": pem(authority().certificate),
                "tls-server-name": "kubernetes",
                "config": {"audience": "x"},
            },
        },
    }
    assert (tmp_path / "said").read_text() == f"one red {os.environ['HOME']}\n"


@pytest.mark.parametrize("mode", ["IfAvailable", "Always", "Never"])
def test_a_plugin_may_ask_at_a_terminal(mode: str, tmp_path: Path) -> None:
    script = 'echo "who is it?" >&2; read name || name=nobody\n' + credential(token="@").replace(
        "'END'", "'END' | sed s/@/$name/"
    )
    path = write(tmp_path / "k", kubeconfig(user=plugin(tmp_path / "plugin", script, interactiveMode=mode)))
    code = (
        "import pathlib, sys; from kiptail.kube.session import open_session;"
        " print(open_session([pathlib.Path(sys.argv[1])], None, None).credential.header())"
    )
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        if mode != "Never":
            assert os.read(ours, 100) == b"who is it?\r\n"
            os.write(ours, b"ann\n")
        said, _ = process.communicate(timeout=10)
    os.close(ours)
    assert said == (b"Bearer nobody\n" if mode == "Never" else b"Bearer ann\n")


def test_a_token_of_the_users_own_comes_first(tmp_path: Path) -> None:
    user = plugin(tmp_path / "plugin", f"touch {tmp_path}/ran") | {"token": "t"}
    KubeApi.from_kubeconfig(write(tmp_path / "k", kubeconfig(user=user))).close()
    assert not (tmp_path / "ran").exists()


def runs(directory: Path) -> int:
    """How often the plugin was run that writes a line each time."""
    return (directory / "runs").read_text().count("run")


def test_a_plugins_token_is_used_and_renewed_before_it_expires(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = server.add_user("plugged", "system:masters")
    script = f"echo run >> {tmp_path}/runs\n" + credential(token=token, expirationTimestamp="2020-01-01T00:00:00Z")
    path = server.kubeconfig(tmp_path / "k", user=plugin(tmp_path / "plugin", script))
    api = KubeApi.from_kubeconfig(path)
    list_pods(api)
    assert server.requests()[-1].user == "plugged"
    assert runs(tmp_path) == 1, "one that gives what has expired is not run at each request"
    api.reload()
    monkeypatch.setattr(sessions, "RENEW_PAUSE_S", 0.0)
    api.reload()
    before = runs(tmp_path)
    list_pods(api)
    assert runs(tmp_path) == before + 1
    api.close()


@pytest.mark.parametrize(
    ("life", "renewed"),
    [(3600, 2880.0), (-3600, 10.0), (1, 10.0), (10**10, 8 * 10**9), (None, float("inf"))],
    ids=["an hour", "it has expired", "a second", "three hundred years", "no end"],
)
def test_when_a_credential_is_renewed(life: int | None, renewed: float, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    more = {} if life is None else {"expirationTimestamp": f"{now + timedelta(seconds=life):%Y-%m-%dT%H:%M:%SZ}"}
    path = write(tmp_path / "k", kubeconfig(user=plugin(tmp_path / "plugin", credential(token="t", **more))))
    session = sessions.open_session([path], None, None)
    assert session.credential._renew_at - time.monotonic() == pytest.approx(renewed, abs=3)


def test_a_plugin_that_can_renew_no_more_is_warned_about_and_left_alone_for_a_while(
    server: ApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "RENEW_PAUSE_S", 0.0)
    token = server.add_user("plugged", "system:masters")
    good = credential(token=token, expirationTimestamp="2020-01-01T00:00:00Z")
    script = f"test -e {tmp_path}/broken && {{ echo 'no such region' >&2; exit 3; }}\n{good}"
    path = server.kubeconfig(tmp_path / "k", user=plugin(tmp_path / "plugin", script))
    api = KubeApi.from_kubeconfig(path)
    (tmp_path / "broken").touch()
    list_pods(api)
    list_pods(api)
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot renew the credential: the kubeconfig {path}: the exec plugin plugin ended with 3: no such region"
    ]
    api.close()


def certificate_of(name: str, **more: str) -> str:
    pair = authority().client(name, "system:masters")
    return credential(clientCertificateData=pair.certificate.read_text(), clientKeyData=pair.key.read_text(), **more)


def test_a_plugin_may_give_a_certificate(server: ApiServer, tmp_path: Path) -> None:
    path = server.kubeconfig(tmp_path / "k", user=plugin(tmp_path / "plugin", certificate_of("system:node:node1")))
    api = KubeApi.from_kubeconfig(path)
    assert api.node_name == "node1"
    assert api.allowed("create", "events") is True
    api.close()


def test_a_plugins_certificate_is_renewed_before_it_expires(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "RENEW_PAUSE_S", 0.0)
    script = f"test -e {tmp_path}/second || {{\n{certificate_of('one', expirationTimestamp='2020-01-01T00:00:00Z')}\n"
    script += f"exit; }}\n{certificate_of('two')}"
    path = server.kubeconfig(tmp_path / "k", user=plugin(tmp_path / "plugin", script))
    api = KubeApi.from_kubeconfig(path, files_check_s=0.0)
    list_pods(api)
    (tmp_path / "second").touch()
    monkeypatch.setattr(sessions, "EXEC_PAUSE_S", 0.0)
    api.reload()
    list_pods(api)
    assert [request.user for request in server.requests()] == ["one", "two"]
    api.close()


# -- a stop breaks it off ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["sleep 60", "trap '' TERM; while :; do sleep 1; done"], ids=["sleeps", "stubborn"])
def test_closing_the_client_breaks_a_plugin_off(script: str, tmp_path: Path, server: ApiServer) -> None:
    token = server.add_user("plugged", "system:masters")
    hang = f"test -e {tmp_path}/hang && {{ echo $$ >{tmp_path}/pid\n{script}\n}}\n"
    path = server.kubeconfig(tmp_path / "k", user=plugin(tmp_path / "plugin", hang + credential(token=token)))
    api = KubeApi.from_kubeconfig(path)
    server.access.revoke_token(token)
    (tmp_path / "hang").touch()
    errors: list[ApiError] = []

    def ask() -> None:
        try:
            list_pods(api)
        except ApiError as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the plugin runs")
    began = time.monotonic()
    api.close()
    thread.join(10)
    assert time.monotonic() - began < AT_ONCE
    assert "was broken off, for kiptail stops" in str(errors[0])
    until(lambda: gone(int((tmp_path / "pid").read_text())), "none of them is left")


def test_a_stop_at_the_start_breaks_a_plugin_off(tmp_path: Path) -> None:
    script = f"echo $$ >{tmp_path}/pid\ntrap '' TERM INT; sleep 60; sleep 60"
    path = write(tmp_path / "k", kubeconfig(user=plugin(tmp_path / "plugin", script)))
    (tmp_path / "journal").mkdir()
    kiptail = Kiptail(
        tmp_path, "--kubeconfig", path, "--prefix", "x:", "--journal-directory", tmp_path / "journal",
        "--state-directory", tmp_path / "state", "--metrics-address", "off",
    )  # fmt: skip
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the plugin runs")
    began = time.monotonic()
    assert kiptail.stop() == 0
    assert time.monotonic() - began < AT_ONCE
    assert kiptail.log == ""
    until(lambda: gone(int((tmp_path / "pid").read_text())), "none of them is left")


def test_a_plugin_that_hangs_ends_the_start_with_exit_code_4(tmp_path: Path) -> None:
    path = write(tmp_path / "k", kubeconfig(user=plugin(tmp_path / "plugin", f"{FLOOD} & {FLOOD}")))
    done = run_kiptail(
        "--kubeconfig", path, "--prefix", "x:", "--state-directory", tmp_path, "--metrics-address", "off"
    )
    assert done.returncode == 4
    assert done.stderr.decode().endswith("the exec plugin plugin printed more than 1 MiB\n")


# -- auth providers ----------------------------------------------------------------------------------------------------


def oidc(directory: Path, **config: object) -> Path:
    return write(directory / "k", kubeconfig(user={"auth-provider": {"name": "oidc", "config": config}}))


def test_times_of_a_providers_configuration_are_text(tmp_path: Path) -> None:
    path = oidc(tmp_path)
    path.write_text(
        json.dumps(json.loads(path.read_text())).replace('"config": {}', '"config": {"expiry": 2020-01-01}')
    )
    with pytest.raises(ClusterError, match="Expected key id-token in"):
        sessions.open_session([path], None, None)


def test_a_providers_token_is_used_until_it_expires(tmp_path: Path) -> None:
    from tests.credentials.test_tokens import token  # noqa: PLC0415

    end = time.time() + 1000
    session = sessions.open_session([oidc(tmp_path, **{"id-token": token(iat=1, exp=end)})], None, None)
    assert session.credential.header() == f"Bearer {token(iat=1, exp=end)}"
    assert session.credential._renew_at - time.monotonic() == pytest.approx(1000, abs=5)


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        ({"name": "oidc", "config": {"id-token": 5}}, "a value of users[0].user.auth-provider.config is not text"),
        ({"name": "oidc", "config": ["id-token"]}, "users[0].user.auth-provider.config is not a mapping of texts"),
        ({"name": "oidc", "config": {"id-token": "hunter2"}}, "gave neither a token nor a certificate"),
        ({"name": "nobody's"}, "the auth provider nobody's gave neither a token nor a certificate"),
        ({"name": 5}, "auth-provider.name is not text"),
        ({"config": {}}, "the auth provider has no name"),
        (5, "auth-provider is not a mapping"),
    ],
)
def test_what_is_wrong_with_a_provider(provider: object, expected: str, tmp_path: Path) -> None:
    assert expected in refusal({"auth-provider": provider}, tmp_path)


@pytest.mark.usefixtures("short")
def test_a_provider_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_PROVIDER", ("-c", "import time; time.sleep(60)"))
    assert refusal({"auth-provider": {"name": "oidc"}}, tmp_path) == f"the auth provider oidc {LATE}"


@pytest.mark.parametrize("kind", ["token", "exec", "auth-provider"])
def test_the_kubernetes_package_is_never_loaded(kind: str, tmp_path: Path) -> None:
    """It takes 29 MiB."""
    user: dict[str, Any] = {"token": "t"}
    if kind == "exec":
        user = plugin(tmp_path / "plugin", credential(token="t"))
    path = oidc(tmp_path, **{"id-token": "e30.e30.x"}) if kind == "auth-provider" else tmp_path / "k"
    if kind != "auth-provider":
        write(path, kubeconfig(user=user))
    code = (
        "import pathlib, sys; from kiptail.kube.api import KubeApi; KubeApi.from_kubeconfig(pathlib.Path(sys.argv[1]));"
        " print('kubernetes' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# -- no file is written ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["unwritable", "nowhere"])
def test_no_credential_needs_room_on_a_disk(
    where: str, server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every kind of it, where no file can be made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / where))
    monkeypatch.setenv("TMPDIR", str(tmp_path / where))
    pair = authority().client("ann", "system:masters")
    inline = {"client-certificate-data": pem(pair.certificate), "client-key-data": pem(pair.key)}
    makers: list[Callable[[], dict[str, Any]]] = [
        lambda: {"token": server.add_user("bob", "system:masters")},
        lambda: inline,
        lambda: plugin(tmp_path / "plugin", certificate_of("carl")),
    ]
    for make in makers:
        api = KubeApi.from_kubeconfig(server.kubeconfig(tmp_path / "k", user=make()))
        list_pods(api)
        api.reload()
        api.close()


@pytest.mark.live
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a private mount namespace")
@pytest.mark.parametrize("kind", ["inline", "plugin"])
def test_a_full_tmp_is_in_nobodys_way(kind: str, server: ApiServer, tmp_path: Path) -> None:
    pair = authority().client("ann", "system:masters")
    user = {"client-certificate-data": pem(pair.certificate), "client-key-data": pem(pair.key)}
    if kind == "plugin":
        user = plugin(tmp_path / "plugin", certificate_of("ann"))
    path = server.kubeconfig(tmp_path / "k", user=user)
    entry = kernel_entry("nothing", realtime_us=time.time_ns() // 1000, monotonic_us=1)
    export_to_journal([entry], tmp_path / "journal" / "system.journal")
    with Kiptail(
        tmp_path, "--kubeconfig", path, "--prefix", "x:", "--journal-directory", tmp_path / "journal",
        "--state-directory", tmp_path / "state", "--metrics-address", "off", within=without_room(tmp_path),
    ) as kiptail:  # fmt: skip
        until(lambda: server.requests(user="ann", status=200), "it lists pods")
        assert kiptail.stop() == 0
        assert "Traceback" not in kiptail.log
