"""A certificate authority for the test servers of this process, made with the `openssl` command line.

Keys are EC (P-256): making one takes milliseconds. Everything lives in one private temporary directory that
is removed when the process ends, or in a directory that is named by `live_in`.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Authority", "Pair", "authority", "live_in", "wrong_authority"]

# Python 3.13 verifies strictly (RFC 5280): key usages and key identifiers have to be there.
_CONFIG = """\
[req]
distinguished_name = dn
prompt = no
string_mask = utf8only
[dn]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:localhost, DNS:kubernetes, DNS:kubernetes.default.svc, IP:127.0.0.1, IP:::1
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@dataclass(frozen=True, slots=True)
class Pair:
    """The PEM files of a certificate and of its key."""

    certificate: Path
    key: Path


class Authority:
    """A CA that issues server and client certificates into `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._config = directory / "openssl.cnf"
        self._config.write_text(_CONFIG)
        self._serial = itertools.count(1)
        self._clients: dict[tuple[str, tuple[str, ...]], Pair] = {}
        self._ca: Pair | None = None
        self._ca = self._make("ca", "/CN=kiptail-test-ca", "ca")
        self.server = self._make("server", "/CN=kube-apiserver", "server")

    @property
    def certificate(self) -> Path:
        """The CA's own certificate."""
        assert self._ca is not None
        return self._ca.certificate

    def client(self, name: str, *groups: str) -> Pair:
        """A client certificate: CN is the user's name, each O a group. Issued once and kept."""
        if (name, groups) not in self._clients:
            subject = "".join(f"/O={group}" for group in groups) + f"/CN={name}"
            self._clients[name, groups] = self._make(f"client{next(self._serial)}", subject, "client")
        return self._clients[name, groups]

    def expired_client(self, name: str, *groups: str) -> Pair:
        """As :meth:`client`, but it expired yesterday."""
        pair = self.client(name, *groups)
        old = Pair(pair.certificate.with_suffix(".old.crt"), pair.key)
        subject = "".join(f"/O={group}" for group in groups) + f"/CN={name}"
        request = ["openssl", "req", "-new", "-config", str(self._config), "-key", str(pair.key), "-subj", subject]
        asked = subprocess.run(request, check=True, capture_output=True, timeout=30).stdout
        assert self._ca is not None
        sign = ["openssl", "ca", "-batch", "-config", str(self._sign_config()), "-in", "/dev/stdin", "-notext"]
        sign += ["-startdate", "20240101000000Z", "-enddate", "20240102000000Z", "-out", str(old.certificate)]
        subprocess.run(sign, input=asked, check=True, capture_output=True, timeout=30)
        return old

    def _sign_config(self) -> Path:
        """What `openssl ca` needs, the only one that takes dates in the past."""
        assert self._ca is not None
        directory = self._directory
        (directory / "index.txt").write_text("")
        (directory / "index.txt.attr").write_text("unique_subject = no\n")
        config = directory / "sign.cnf"
        config.write_text(
            f"[ca]\ndefault_ca=own\n[own]\ndatabase={directory}/index.txt\nnew_certs_dir={directory}\n"
            f"certificate={self._ca.certificate}\nprivate_key={self._ca.key}\nrand_serial=yes\ndefault_md=sha256\n"
            "policy=any\n[any]\norganizationName=optional\ncommonName=supplied\n"
        )
        return config

    def _make(self, stem: str, subject: str, extensions: str) -> Pair:
        """One `openssl req -x509` makes key and certificate; signed by the CA, if there is one already."""
        pair = Pair(self._directory / f"{stem}.crt", self._directory / f"{stem}.key")
        if extensions != "client" and pair.certificate.exists():
            return pair  # of a server that was here before
        command = ["openssl", "req", "-x509", "-config", str(self._config), "-extensions", extensions]
        command += [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-sha256",
            "-days",
            "2",
        ]
        command += ["-subj", subject, "-keyout", str(pair.key), "-out", str(pair.certificate)]
        if self._ca is not None:
            command += ["-CA", str(self._ca.certificate), "-CAkey", str(self._ca.key)]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
        return pair


_home: list[Path] = []
_making = threading.Lock()


def live_in(directory: Path) -> None:
    """Keep the CA in `directory`, where the next process finds it again; before anybody asks for it."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _home[:] = [directory]


def _new_authority() -> Authority:
    directory = tempfile.TemporaryDirectory(prefix="kiptail-test-ca-")
    # Cleaned up by hand: the finalizer of TemporaryDirectory would warn (ResourceWarning).
    atexit.register(directory.cleanup)
    return Authority(Path(directory.name))


def authority() -> Authority:
    """The CA of this process's test servers."""
    # lru_cache alone would let two threads that ask first each make one.
    with _making:
        return _authority()


@functools.lru_cache(maxsize=1)
def _authority() -> Authority:
    return Authority(_home[0]) if _home else _new_authority()


@functools.lru_cache(maxsize=1)
def wrong_authority() -> Authority:
    """Another CA, which no test server uses: for clients that trust the wrong one."""
    return _new_authority()
