"""The test server as another process, which can be killed, frozen and started again as the same cluster."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["ServerProcess"]

ROOT = Path(__file__).parents[2]
USER = "kiptail"


class ServerProcess:
    """`with ServerProcess(directory, pods) as server:` serves a cluster of these pods (give them UIDs).

    `kubeconfig` is for a user who may do what packaging/rbac.yaml allows; so may the users in `also`. Objects and
    certificates are in `directory`: a server that is started after `kill` is the same cluster, on the same port.
    """

    def __init__(self, directory: Path, pods: Iterable[Mapping[str, Any]], *, also: Sequence[str] = ()) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self.kubeconfig = directory / "kubeconfig"
        self._users = (USER, *also)
        self._pods = directory / "pods.json"
        self._pods.write_text(json.dumps({"items": list(pods)}))
        # Bound without listening: while the server is gone the port refuses clients, and nobody else is given it.
        self._port = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._port.bind(("127.0.0.1", 0))
        self._process: subprocess.Popen[str] | None = None

    def start(self, *, ca: str = "ca", empty: bool = False) -> None:
        """Serve. With another `ca` the certificate is of a CA of this name; `empty`: only the pods are left."""
        assert self._process is None
        state = self._directory / "state"
        if empty:
            state.unlink(missing_ok=True)
        admin, user = self._config("admin", ca), self._config("user", ca)
        for path, first in ((admin, self._config("admin", "ca")), (user, self._config("user", "ca"))):
            if not path.exists() and first.exists():
                shutil.copy(first, path)  # for the token in it, which is to stay good
        rights = [
            argument
            for user in self._users
            for verbs, resources in (("get list watch", "pods"), ("create patch", "events"))
            for argument in ("--grant", user, verbs, resources)
        ]
        self._process = subprocess.Popen(
            [
                sys.executable, "-W", "error", "-m", "tests.apiserver",
                "--port", str(self._port.getsockname()[1]), "--pods", self._pods, "--keep", state,
                "--certificates", self._directory / ca,
                "--kubeconfig", admin, "--user-kubeconfig", USER, user,
                *rights,
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline(), "the server did not start"
        self._ca = ca
        if not self.kubeconfig.exists():
            self.trust(ca)

    def trust(self, ca: str) -> None:
        """Have the kubeconfig name this CA, as an administrator would who renews the cluster's."""
        new = self.kubeconfig.with_name("kubeconfig.new")
        shutil.copy(self._config("user", ca), new)
        new.replace(self.kubeconfig)

    def kill(self) -> None:
        """End it as a crash would; what it had answered is kept."""
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait(10)
        self._process.stdout.close()
        self._process = None

    @property
    def certificates(self) -> Path:
        """The directory of the CA that it started with last."""
        return self._directory / self._ca

    def freeze(self) -> None:
        """Stop the process where it is: the kernel still accepts connections, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    @property
    def admin_kubeconfig(self) -> Path:
        """For those who may see and do everything."""
        return self._config("admin", self._ca)

    def events(self) -> list[dict[str, Any]]:
        """All Events, as an administrator lists them."""
        items: list[dict[str, Any]] = self._get("/api/v1/events")["items"]
        return items

    def new_events(self) -> Iterator[dict[str, Any]]:
        """Each Event when it is stored for the first time, those that there are first; ends with the server."""
        with self._asked("/api/v1/events?watch=true", timeout=3600) as response, contextlib.suppress(OSError):
            for line in response:
                change = json.loads(line)
                if change["type"] == "ADDED":
                    yield change["object"]

    def close(self) -> None:
        """End it for good."""
        if self._process is not None:
            self.kill()
        self._port.close()

    def __enter__(self) -> ServerProcess:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _config(self, whose: str, ca: str) -> Path:
        return self._directory / f"{whose}-{ca}"

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _get(self, path: str) -> Any:
        with self._asked(path, timeout=10) as response:
            return json.load(response)

    @contextlib.contextmanager
    def _asked(self, path: str, timeout: float) -> Iterator[http.client.HTTPResponse]:
        config = json.loads(self.admin_kubeconfig.read_text())
        trusted = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=trusted)
        port = self._port.getsockname()[1]
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=timeout)
        try:
            token = config["users"][0]["user"]["token"]
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            with connection.getresponse() as response:
                yield response
        finally:
            connection.close()
