"""kubeconfigs that nobody would write: each is a session, or one line that tells no secret."""

from __future__ import annotations

import base64
import copy
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kiptail.credentials import plugin as plugins
from kiptail.errors import ClusterError
from kiptail.kube.session import open_session
from tests.apiserver.certificates import authority
from tests.support.fuzzing import cases, source
from tests.support.kube import pem, plugin

SECRET = "hunter2"
#: Whoever fails or succeeds takes no longer, in seconds.
LONGEST = 10.0


def judge(text: bytes, directory: Path, told: str = "", *, secret: str = SECRET) -> str | None:
    """The error's text, without the ``secret``; None for a session. Nothing else may be raised."""
    path = directory / "kubeconfig"
    path.write_bytes(text)
    began = time.monotonic()
    try:
        session = open_session([path], None, None)
        session.credential.header()
        session.close()
    except ClusterError as error:
        said = str(error)
    else:
        said = None
    assert time.monotonic() - began < LONGEST, told
    if said is not None:
        assert said.isprintable(), told
        assert len(said) < 1_200, told
        assert secret not in said, told
        assert str(path) in said or "token" in said, told
    return said


def seeds(directory: Path) -> list[dict[str, Any]]:
    """Good kubeconfigs of all kinds."""
    pair = authority().client("ann")
    (directory / "token").write_text(SECRET)
    answer = {"apiVersion": plugins._VERSIONS[0], "kind": "ExecCredential", "status": {"token": SECRET}}
    run = plugin(directory / "plugin", f"echo '{json.dumps(answer)}'")
    run["exec"] |= {"args": ["a"], "env": [{"name": "A", "value": "b"}], "provideClusterInfo": True, "installHint": "x"}
    clusters: list[dict[str, Any]] = [
        {
            "server": "https://127.0.0.1:6443",
            "certificate-authority": str(authority().certificate),
            "tls-server-name": "kubernetes",
            "extensions": [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": [1, "x", None]}}],
        },
        {
            "server": "https://[::1]:6443/base",
            "certificate-authority-data": pem(authority().certificate),
            "proxy-url": f"http://ann:{SECRET}@proxy.example:3128",
        },
        {"server": "http://localhost:8080", "insecure-skip-tls-verify": True},
    ]
    users: list[dict[str, Any]] = [
        {"token": SECRET, "as": "ann", "as-groups": ["a", "b"], "as-uid": "1", "as-user-extra": {"a/b": ["c", "d"]}},
        {"tokenFile": str(directory / "token")},
        {"username": "ann", "password": SECRET},
        {"client-certificate-data": pem(pair.certificate), "client-key-data": pem(pair.key)},
        {"client-certificate": str(pair.certificate), "client-key": str(pair.key)},
        run,
    ]
    return [
        {
            "apiVersion": "v1",
            "kind": "Config",
            "preferences": {},
            "current-context": "one",
            "contexts": [
                {"name": "two", "context": {"cluster": "c", "user": "nobody"}},
                {"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "x"}},
            ],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
        }
        for cluster in clusters
        for user in users
    ]


#: What stands in the place of a value.
ODD: list[Any] = [
    None, True, False, 0, -1, 2**63, 10**400, 1.5, float("nan"), float("inf"), "", " ", "x", "\0", "\n", "\t", "é",
    "\u202e", "\ud800", "../../x", "/", "/dev/null", "/dev/full", "~", "x" * 5_000, "https://", "https://a..b",
    "https://[", "https://h:0", "https://h:99999", "https://a b", "https://h\n.example", "//", "file:///etc/passwd",
    "https://ann:password@h", "socks5://h:1", "ftp://ann@h", "YWJj", "====", "LS0tLS1CRUdJTi",
    [], [[]], [None], {}, {"a": {}}, {"": None}, b"", b"\xff\xfe", yaml.YAMLObject, "${HOME}", "%s%n", "{}", "*", "&a",
]  # fmt: skip
#: Texts that are put into the YAML somewhere.
SPLINTERS = [
    b"\0", b"\t", b"\xef\xbb\xbf", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\r", b"\x85", b"\xe2\x80\xa8", b"---\n",
    b"...\n", b"&a ", b"*a ", b"!!binary ", b"!!int ", b"!!bool ", b"!!timestamp ", b"!!python/object:os.system ",
    b"!!set ", b"!!omap ", b"!!float ", b"? ", b"- ", b": ", b"{", b"[", b"}", b"]", b"'", b'"', b"|", b">",
    b"%YAML 9.9\n", b"<<: *a\n", b"0x", b"1:1", b"#", b"users: 5\n", b"clusters: []\n", b"0" * 5_000,
]  # fmt: skip


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where there is something in a document."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at] * bool(at) + [place for key, part in parts for place in places(part, (*at, key))]


def swapped_values(document: dict[str, Any], chance: random.Random) -> bytes:
    """Some of its values and keys swapped."""
    document = copy.deepcopy(document)
    for _ in range(chance.choice((0, 1, 1, 1, 2, 5))):
        *way, last = chance.choice(places(document))
        holder: Any = document
        for step in way:
            holder = holder[step]
        what = chance.randrange(6)
        if what == 0:
            del holder[last]
        elif what == 1 and isinstance(holder, dict):
            holder[
                chance.choice(
                    (
                        "certificate-authority-data",
                        "exec",
                        "auth-provider",
                        "token",
                        "as",
                        "as-groups",
                        "proxy-url",
                        "x",
                        "server",
                    )
                )
            ] = chance.choice(ODD[:40])
        elif what == 2:
            holder[last] = [holder[last]]
        elif what == 3:
            holder[last] = {"name": holder[last]}
        else:
            holder[last] = chance.choice(ODD)
    try:
        return yaml.dump(document, sort_keys=False).encode(errors="surrogatepass")
    except (yaml.YAMLError, UnicodeError, ValueError):
        return json.dumps(document, default=str).encode()


def broken(text: bytes, chance: random.Random) -> bytes:
    """Something put into the text, or taken out of it."""
    for _ in range(chance.choice((1, 1, 3))):
        at, what = chance.randrange(len(text) + 1), chance.randrange(3)
        lines = text.splitlines(keepends=True)
        if what == 0:
            text = text[:at] + chance.choice(SPLINTERS) + text[at:]
        elif what == 1 or not lines:
            text = text[:at] + text[at + chance.randrange(1, 40) :]
        else:
            lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))
            text = b"".join(lines)
    return text


@pytest.mark.fuzz
def test_any_kubeconfig_is_a_session_or_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "EXEC_TIMEOUT_S", 2.0)
    monkeypatch.setattr(plugins, "_PROVIDER", ("-c", "raise SystemExit('no providers here')"))
    chance, seed = source("kubeconfig")
    good = seeds(tmp_path)
    for document in good:
        assert judge(yaml.dump(document).encode(), tmp_path) is None
    sessions = 0
    for number in range(cases(300)):
        text, secret = swapped_values(chance.choice(good), chance), SECRET
        if chance.random() < 0.4:
            # What becomes of a secret then may be a name, which is told.
            text, secret = broken(text, chance), "no secret"
        told = f"{seed}, case {number}: {text[:3_000]!r}"
        try:
            sessions += judge(text, tmp_path, told, secret=secret) is None
        except Exception as error:
            raise AssertionError(told) from error
    assert 0.05 < sessions / cases(300) < 0.9, "some are good and some are not"


# -- what was found, and what one would try by hand --------------------------------------------------------------------

PLAIN = """
current-context: one
contexts: [{name: one, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://127.0.0.1:6443"}}]
users: [{name: u, user: {token: hunter2}}]
"""
BEGINNINGS = base64.b64encode(b"-----BEGIN CERTIFICATE-----" * 20_000).decode()
LAUGHS = "l0: &l0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"l{n}: &l{n} [{', '.join(f'*l{n - 1}' for _ in range(9))}]\n" for n in range(1, 10)
)

MERGED = "m0: &m0 {x: y}\n" + "".join(
    f"m{n}: &m{n} {{<<: [{', '.join(f'*m{n - 1}' for _ in range(9))}]}}\n" for n in range(1, 10)
)


def swapped(old: str, new: str, more: str = "") -> Callable[[], str]:
    assert old in PLAIN
    return lambda: more + PLAIN.replace(old, new)


FOUND: dict[str, tuple[Callable[[], str] | bytes, str]] = {
    "laughs": (lambda: LAUGHS + PLAIN, "not valid YAML: aliases make it endless"),
    "laughs for a context's name": (
        swapped("- ", "- ") if "- " in PLAIN else swapped("name: one", "name: *l9", LAUGHS),
        "endless",
    ),
    "a list that holds itself": (lambda: PLAIN + "x: &x [*x]\n", "not valid YAML: aliases make it endless"),
    "a list for a name": (swapped("{name: c", "{name: [c]"), "clusters[0].name is not text"),
    "a list for a cluster": (swapped("cluster: c", "cluster: [c]"), "contexts[0].context.cluster is not text"),
    "a number for a server": (swapped('"https://127.0.0.1:6443"', "0x" + "f" * 5_000), "server is not text"),
    "a date for a server": (swapped('"https://127.0.0.1:6443"', "2020-01-01"), "server is not a URL"),
    "bytes for a token": (swapped("hunter2", "!!binary /w=="), "not valid YAML"),
    "bytes for a CA": (
        swapped('server: "https', 'certificate-authority-data: !!binary "YWJj", server: "https'),
        "certificate-authority-data is not base64",
    ),
    "verification is text": (
        swapped('server: "https', 'insecure-skip-tls-verify: "false", server: "https'),
        "insecure-skip-tls-verify is not true or false",
    ),
    "an empty integer": (lambda: PLAIN + 'x: !!int ""\n', "not valid YAML"),
    "no truth value": (lambda: PLAIN + "x: !!bool maybe\n", "not valid YAML"),
    "a secret that begins like an alias": (swapped("hunter2", "*hunter2"), "needs quotes) in line 5"),
    "a secret that begins like a tag": (swapped("hunter2", "!hunter2 x"), "needs quotes) in line 5"),
    "a secret that begins like a tag with a handle": (swapped("hunter2", "!hunter2!x x"), "needs quotes) in line 5"),
    "a secret that begins like an anchor": (swapped("hunter2", "&hunter2 &hunter2 x"), "not valid YAML"),
    "a secret with a colon": (swapped("token: hunter2", "token: a: hunter2"), "not valid YAML"),
    "a secret that is not closed": (swapped("hunter2", '"hunter2\\q'), "not valid YAML"),
    "an object": (lambda: PLAIN + "x: !!python/object/apply:os.system [true]\n", "not valid YAML"),
    "a number of many digits": (lambda: PLAIN + f"x: {'9' * 10_000}\n", "not valid YAML"),
    "two documents": (lambda: PLAIN + "---\n" + PLAIN, "not valid YAML"),
    "nested deeply": (lambda: PLAIN + f"x: {'[' * 2_000}\n", "not valid YAML"),
    "a NUL": (b"a: \0", "not valid YAML"),
    "no UTF-8": (b"a: \xff\xff", "not valid YAML"),
    "a surrogate": (b"a: \xed\xa0\x80", "not valid YAML"),
    "UTF-16 cut in two": ("a: b".encode("utf-16")[:-1], "not valid YAML"),
    "a NUL in a path": (swapped("token: hunter2", 'tokenFile: "a\\0b"'), "cannot be read: embedded null byte"),
    "a password with a slash in the server": (
        swapped("https://127", "https://ann:a/hunter2@127"),
        "https://…@127.0.0.1",
    ),
    "a password in a server without a scheme": (swapped("https://127", "ann:hunter2@127"), "is not a URL"),
    "a long password in the server": (
        swapped("https://127", f"https://ann:{'hunter2' * 99}@127"),
        "https://…@127.0.0.1",
    ),
    "a token in the server's query": (swapped(":6443", ":6443/?token=hunter2"), "is not a URL"),
    "a key in a path's place": (
        swapped(
            "token: hunter2", 'client-key: "-----BEGIN EC PRIVATE KEY-----\\nhunter2", client-certificate: /dev/null'
        ),
        "client-key is not a path",
    ),
    "a key in base64 in a path's place": (
        swapped("token: hunter2", "client-key: LS0tLShunter2"),
        "client-key-data, in",
    ),
    "a token in a path's place": (
        swapped("token: hunter2", "tokenFile: eyJhunter2"),
        "tokenFile is not a path, but looks like what belongs into token",
    ),
    "a password in the server": (swapped("https://127", "https://ann:hunter2@127"), "https://…@127.0.0.1:6443"),
    "a password in the proxy": (
        swapped('server: "https', 'proxy-url: "ftp://ann:hunter2@h", server: "https'),
        "the proxy-url ftp://…@h cannot be used",
    ),
    "an empty label": (swapped("127.0.0.1", "a..b"), "is not a URL"),
    "a blank in the server": (swapped("127.0.0.1", "a b"), "is not a URL"),
    "a name that no certificate can have": (
        swapped('server: "https', 'tls-server-name: "a..b", server: "https'),
        "tls-server-name is no host's name: a..b",
    ),
    "a certificate's beginning, again and again": (
        lambda: PLAIN.replace(
            'server: "https',
            f'certificate-authority-data: {"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t" * 20_000}, server: "https',
        ),
        "holds no PEM certificate",
    ),
}


@pytest.mark.parametrize("case", FOUND)
def test_what_was_found_is_one_line(case: str, tmp_path: Path) -> None:
    text, expected = FOUND[case]
    said = judge(text if isinstance(text, bytes) else text().encode(), tmp_path)
    assert said is not None
    assert expected in said


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + PLAIN,
        PLAIN.replace("name: c,", "name: 2020-02-31,").replace("cluster: c,", "cluster: 2020-02-31,"),
        PLAIN.replace("hunter2", "!!binary aHVudGVyMg=="),
        PLAIN.replace("hunter2", "1:30"),
        PLAIN.replace("hunter2", "="),
        PLAIN.replace("token: hunter2", 'username: "\u4e2d", password: hunter2'),
        PLAIN.replace("name: u,", "name: u, name: u,"),
        PLAIN + "base: &base {a: 1}\nother: {<<: *base}\n",
        PLAIN.replace("{token", "{unknown: {x: [1]}, client-certificate: null, exec: null, token"),
    ],
    ids=[
        "a byte order mark",
        "a day for a name",
        "bytes for a token",
        "a time",
        "a sign",
        "a password in Chinese",
        "a key twice",
        "an alias",
        "unknown keys",
    ],
)
def test_what_can_be_used_is_a_session(text: str, tmp_path: Path) -> None:
    assert judge(text.encode(), tmp_path) is None
