"""The daemon's own token: renewed in time, kept privately, and a word when that does not work."""

from __future__ import annotations

import json
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kiptail.admin.manifests import dedicated
from kiptail.credentials.renewal import LOOK_INTERVAL, RETRY_FIRST, RETRY_LAST, KeptToken, Renewer
from kiptail.credentials.tokens import Claims, choose_token, claims_of
from kiptail.errors import ApiError
from kiptail.kube.api import KubeApi
from tests.apiserver import ApiServer
from tests.apiserver.access import User
from tests.credentials.test_tokens import token as made
from tests.support.clock import Clock
from tests.support.running import Kiptail

SUBJECT = "system:serviceaccount:kube-system:kiptail"


class Place:
    """A service account with a token of an hour, and the kubeconfig that holds it."""

    def __init__(self, server: ApiServer, directory: Path, *, lifetime: float = 3_600.0) -> None:
        self.server, self.directory = server, directory
        server.apply(dedicated())
        account = server.serviceaccounts.get("kiptail", namespace="kube-system")
        assert account is not None
        groups = ("system:serviceaccounts", "system:serviceaccounts:kube-system")
        self.user = User(SUBJECT, groups, account["metadata"]["uid"])
        self.first = server.access.add_token(self.user, lifetime=lifetime)
        self.kubeconfig = server.kubeconfig(directory / "kubeconfig", token=self.first)
        self.file = directory / "token"
        self.clock = Clock(time.time())
        self.kept = KeptToken(self.file, wall_clock=self.clock)

    def open(self) -> tuple[KubeApi, Renewer]:
        self.kept = KeptToken(self.file, wall_clock=self.clock)
        api = KubeApi.from_kubeconfig(self.kubeconfig, tokens=self.kept, files_check_s=0.0)
        return api, Renewer(api, self.kept, wall_clock=self.clock)

    def used(self) -> str:
        return self.server.requests()[-1].headers["Authorization"].removeprefix("Bearer ")


@pytest.fixture
def place(server: ApiServer, tmp_path: Path) -> Place:
    return Place(server, tmp_path)


@pytest.fixture
def opened(place: Place) -> Iterator[Callable[[], tuple[KubeApi, Renewer]]]:
    apis: list[KubeApi] = []

    def open_() -> tuple[KubeApi, Renewer]:
        api, renewer = place.open()
        apis.append(api)
        return api, renewer

    yield open_
    for api in apis:
        api.close()


Opened = Callable[[], tuple[KubeApi, Renewer]]


def test_a_token_is_renewed_at_four_fifths_of_its_life(place: Place, opened: Opened) -> None:
    api, renewer = opened()
    place.clock.now += 2_870
    assert renewer.step() <= 11
    assert not place.file.exists()
    place.clock.now += 20
    time.sleep(1.1)  # tokens tell whole seconds
    assert renewer.step() == LOOK_INTERVAL
    assert renewer.trouble == ""
    (request,) = [r for r in place.server.requests() if r.path.endswith("/serviceaccounts/kiptail/token")]
    assert json.loads(request.body)["spec"]["expirationSeconds"] == 3_600
    assert stat.S_IMODE(place.file.stat().st_mode) == 0o600
    assert [path.name for path in place.directory.iterdir() if "token" in path.name] == ["token"]
    fresh = place.file.read_text().strip()
    assert fresh != place.first
    api.who()
    assert place.used() == fresh


def test_the_next_start_goes_on_with_the_renewed_token(place: Place, opened: Opened) -> None:
    _, renewer = opened()
    place.clock.now += 3_000
    time.sleep(1.1)
    renewer.step()
    place.server.access.revoke_token(place.first)
    api, _ = opened()
    api.who()
    assert place.used() == place.file.read_text().strip()


def test_a_new_kubeconfig_wins_over_an_older_renewed_token(place: Place, opened: Opened) -> None:
    _, renewer = opened()
    place.clock.now += 3_000
    time.sleep(1.1)
    renewer.step()
    time.sleep(1.1)
    newest = place.server.access.add_token(place.user, lifetime=7_200)
    place.server.kubeconfig(place.kubeconfig, token=newest)
    api, _ = opened()
    api.who()
    assert place.used() == newest


def test_a_renewed_token_that_is_refused_gives_way_to_the_kubeconfigs(place: Place, opened: Opened) -> None:
    _, renewer = opened()
    place.clock.now += 3_000
    time.sleep(1.1)
    renewer.step()
    place.server.access.revoke_token(place.file.read_text().strip())
    api, _ = opened()
    assert api.who().user == SUBJECT
    assert place.used() == place.first


def holds(change: Callable[[bytes], bytes]) -> Callable[[Path, bytes], object]:
    """A file that holds something else instead of this token."""
    return lambda file, token: file.write_bytes(change(token))


def huge(file: Path, _token: bytes) -> None:
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)


#: What may be in place of the renewed token, and the word that is due; none for one that is simply not to be used.
USELESS: dict[str, tuple[Callable[[Path, bytes], object], str]] = {
    "a bad byte in the signature": (holds(lambda token: token[:-9] + b"\xff" + token[-8:]), "holds no token"),
    "a bad byte in the claims": (holds(lambda token: token.replace(b".", b".\xe9", 1)), "holds no token"),
    "not ASCII": (holds(lambda token: token[:-1] + "é".encode()), "holds no token"),
    "a newline within": (holds(lambda token: token[:-9] + b"\n" + token[-9:]), "holds no token"),
    "a header": (holds(lambda token: token + b"\r\nImpersonate-User: admin"), "holds no token"),
    "NULs, as after a power failure": (holds(lambda token: b"\0" * len(token)), "holds no token"),
    "a NUL at its end": (holds(lambda token: token + b"\0"), "holds no token"),
    "a third": (holds(lambda token: token[: len(token) // 3]), "holds no token"),
    "twice": (holds(lambda token: token * 2), "holds no token"),
    "nothing": (holds(lambda token: b""), "holds no token"),
    "blanks": (holds(lambda token: b" \n\n"), "holds no token"),
    "no token at all": (holds(lambda token: b"password"), "holds no token"),
    "two mebibytes": (holds(lambda token: token + b"A" * (2 << 20)), "holds no token"),
    "huge": (huge, "holds no token"),
    "claims that are no object": (holds(lambda token: b"e30.W10.e30"), "holds no token"),
    "claims in deep lists": (holds(lambda token: b"e30." + b"W1tb" * 9_999 + b".e30"), "holds no token"),
    "a directory": (lambda file, token: file.mkdir(), "cannot be read: Is a directory"),
    "a FIFO": (lambda file, token: os.mkfifo(file), "holds no token"),
    "a device": (lambda file, token: file.symlink_to("/dev/zero"), "holds no token"),
    "a loop": (lambda file, token: file.symlink_to(file), "cannot be read: Too many levels of symbolic links"),
    "another signature": (holds(lambda token: token[:-4] + token[-4:][::-1] + b"A"), ""),
    "another account's": (
        holds(lambda token: made(iat=2_000_000_000, exp=3_000_000_000, sub=f"{SUBJECT}-other").encode()),
        "",
    ),
    "another cluster's": (
        holds(lambda token: made(iat=2_000_000_000, exp=3_000_000_000, iss="https://other").encode()),
        "",
    ),
}


@pytest.mark.parametrize(("put", "said"), USELESS.values(), ids=USELESS)
def test_a_renewed_token_that_is_damaged_gives_way_to_the_kubeconfigs(
    place: Place, opened: Opened, caplog: pytest.LogCaptureFixture, put: Callable[[Path, bytes], object], said: str
) -> None:
    claims = claims_of(place.first)
    assert claims is not None
    issued = int(claims.issued or 0) + 100
    later = made(iat=issued, exp=issued + 7_200, sub=claims.subject, uid=claims.uid, iss=claims.issuer)
    assert choose_token(place.first, later, refused=(), now=place.clock()) == later, "it would be used"
    put(place.file, later.encode())
    api, _ = opened()
    assert api.who().user == SUBJECT
    assert place.used() == place.first
    api.reload()
    told = [record.getMessage() for record in caplog.records if record.name == "kiptail.credentials.renewal"]
    assert told == [f"the renewed token {place.file} {said}; the kubeconfig's is used"] * bool(said), "said once"
    assert later not in caplog.text


def test_a_renewed_token_is_read_through_a_symlink_and_without_its_blanks(place: Place, opened: Opened) -> None:
    time.sleep(1.1)  # tokens tell whole seconds
    later = place.server.access.add_token(place.user, lifetime=7_200)
    elsewhere = place.directory / "elsewhere"
    elsewhere.write_text(f"\n  {later}\r\n\n")
    place.file.symlink_to(elsewhere)
    api, _ = opened()
    api.who()
    assert place.used() == later


def test_a_missing_right_is_said_long_before(place: Place, opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    place.server.revoke(SUBJECT, "create", "serviceaccounts/token")
    _, renewer = opened()
    with caplog.at_level(logging.WARNING, "kiptail.credentials.renewal"):
        for _ in range(3):
            renewer.step()
    (record,) = caplog.records
    assert "cannot be renewed and expires" in record.getMessage()
    assert "create serviceaccounts/token" in renewer.trouble
    place.clock.now += 3_000
    pauses = [renewer.step() for _ in range(8)]
    assert pauses[0] == RETRY_FIRST
    assert pauses[-1] == RETRY_LAST
    assert "cannot renew the token, which expires" in renewer.trouble
    assert "kiptail manifests" in renewer.trouble
    time.sleep(1.1)
    place.server.access.grant(SUBJECT, "create", "serviceaccounts/token", namespace="kube-system", names=["kiptail"])
    assert renewer.step() == LOOK_INTERVAL
    assert renewer.trouble == ""


def test_the_right_is_for_itself_only(place: Place, opened: Opened) -> None:
    place.server.serviceaccounts.put({"metadata": {"name": "other", "namespace": "kube-system"}})
    api, _ = opened()
    assert api.allowed("create", "serviceaccounts/token", namespace="kube-system", name="kiptail") is True
    assert api.allowed("create", "serviceaccounts/token", namespace="kube-system", name="other") is False
    with pytest.raises(ApiError) as caught:
        api.request_token("kube-system", "other", seconds=3_600)
    assert caught.value.status == 403


def test_a_token_that_cannot_be_stored_is_used_nevertheless(place: Place, opened: Opened) -> None:
    place.file = place.directory / "none" / "token"
    api, renewer = opened()
    place.clock.now += 3_000
    time.sleep(1.1)
    renewer.step()
    assert "cannot be stored" in renewer.trouble
    api.who()
    assert place.used() != place.first


class Shortening:
    """A server whose tokens are good for no longer than the one that is there."""

    def claims(self) -> Claims | None:
        return claims_of(made(iat=1_000, exp=2_000))

    def request_token(self, namespace: str, name: str, *, seconds: int) -> str:
        return made(iat=1_900, exp=2_000)

    def allowed(self, verb: str, resource: str, *, namespace: str, name: str) -> bool | None:
        return True

    def reload(self) -> None:
        raise AssertionError("nothing to use")


def test_a_token_that_is_good_for_no_longer_is_not_taken(tmp_path: Path) -> None:
    renewer = Renewer(Shortening(), KeptToken(tmp_path / "token"), wall_clock=Clock(1_900.0))
    assert renewer.step() == RETRY_FIRST
    assert "good for no longer" in renewer.trouble
    assert not (tmp_path / "token").exists()


def test_who_is_impersonated_asks_for_the_token(place: Place, opened: Opened) -> None:
    """As for everything else; what is missing is told of that user."""
    place.server.access.grant(SUBJECT, "impersonate", "users")
    document = json.loads(place.kubeconfig.read_text())
    document["users"][0]["user"]["as"] = "ann"
    place.kubeconfig.write_text(json.dumps(document))
    _, renewer = opened()
    place.clock.now += 3_000
    assert renewer.step() == RETRY_FIRST
    assert place.server.requests()[-1].user == "ann"
    assert renewer.trouble.endswith("the kubeconfig asks as ann: let that user create serviceaccounts/token for it")
    place.server.access.grant("ann", "create", "serviceaccounts/token", namespace="kube-system", names=["kiptail"])
    time.sleep(1.1)  # times in tokens are whole seconds
    renewer.step()
    assert renewer.trouble == ""
    assert place.file.read_text().strip() not in ("", place.first)


def test_others_credentials_are_left_alone(server: ApiServer, tmp_path: Path) -> None:
    """A client certificate, or a token that somebody else puts into a file."""
    token_file = tmp_path / "their-token"
    token_file.write_text(server.admin_token)
    for options in ({"client": ("system:node:n1", "system:nodes")}, {"token_file": token_file}):
        path = server.kubeconfig(tmp_path / "kubeconfig", **options)  # type: ignore[arg-type]
        kept = KeptToken(tmp_path / "token")
        api = KubeApi.from_kubeconfig(path, tokens=kept)
        assert Renewer(api, kept).step() == LOOK_INTERVAL
        api.close()
    assert server.requests(path_prefix="/api/v1/namespaces") == []


def test_the_daemon_renews_and_says_when_it_cannot(server: ApiServer, tmp_path: Path) -> None:
    """A token of ten seconds: renewed after eight, and its successor is used."""
    place = Place(server, tmp_path, lifetime=10.0)
    journal = tmp_path / "journal"
    from tests.support.journald import export_to_journal, kernel_entry  # noqa: PLC0415 - needs systemd-journal-remote

    export_to_journal([kernel_entry("x", realtime_us=1, monotonic_us=1)], journal / "system.journal")
    arguments = (
        "--kubeconfig", place.kubeconfig, "--state-directory", tmp_path / "state", "--prefix", "x:",
        "--journal-directory", journal, "--metrics-address", "off",
    )  # fmt: skip
    with Kiptail(tmp_path, *arguments) as kiptail:
        kiptail.wait_for(lambda: "renewed the token of kube-system/kiptail" in kiptail.log, "a renewal", timeout=30)
        fresh = (tmp_path / "state" / "token").read_text().strip()
        assert fresh not in kiptail.log
        assert kiptail.stop() == 0
    assert stat.S_IMODE((tmp_path / "state" / "token").stat().st_mode) == 0o600
    claims = claims_of(fresh)
    assert claims is not None
    assert claims.account == ("kube-system", "kiptail")
