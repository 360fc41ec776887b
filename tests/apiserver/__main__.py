"""The test server as a process of its own, for demos, benchmarks and crashes: `python -m tests.apiserver --help`.

Prints one line, the port, when it serves, and goes on until SIGTERM or SIGINT. With --keep, --certificates, the same
--port and the same kubeconfigs, one that is started after a SIGKILL is the same cluster again.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.apiserver import certificates
from tests.apiserver.access import MASTERS, User
from tests.apiserver.keeping import keep
from tests.apiserver.server import ApiServer


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.apiserver", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument(
        "--kubeconfig",
        type=Path,
        help="where to write an administrator's kubeconfig; a token in one that is there stays good",
    )
    parser.add_argument(
        "--user-kubeconfig",
        nargs=2,
        action="append",
        default=[],
        metavar=("USER", "FILE"),
        help="a kubeconfig for a user without rights but those of --grant (system:node:NAME is a kubelet);"
        " a token in one that is there stays good",
    )
    parser.add_argument(
        "--grant",
        nargs=3,
        action="append",
        default=[],
        metavar=("USER", "VERBS", "RESOURCES"),
        help='for example: --grant kiptail "list watch" pods; a group can stand behind the resource:'
        " networkpolicies.networking.k8s.io",
    )
    parser.add_argument(
        "--pods",
        type=Path,
        action="append",
        default=[],
        help="a List in JSON (kubectl -o json), or one pod a line",
    )
    parser.add_argument("--bookmark-period", type=float, default=60.0, help="seconds")
    parser.add_argument("--watch-list", choices=("serve", "reject", "ignore"), default="serve")
    parser.add_argument("--history", type=int, default=10_000, help="changes kept of each kind")
    parser.add_argument("--keep", type=Path, help="a file for the cluster's state, which a later server goes on from")
    parser.add_argument("--certificates", type=Path, help="a directory for the CA and the server's certificate")
    parser.add_argument("--clock-offset", type=float, default=0.0, help="how far the clock is ahead, in seconds")
    parser.add_argument("--events", type=Path, help="at the end, write the Events here as a JSON list")
    return parser.parse_args()


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a List, a JSON list, or JSON lines (read one by one, so that many fit in memory)."""
    with path.open(encoding="utf-8") as file:
        first = file.readline()
        file.seek(0)
        try:
            alone = json.loads(first)
        except ValueError:
            alone = None  # A document of several lines.
        if isinstance(alone, dict) and "items" not in alone:
            yield from (json.loads(line) for line in file if line.strip())
            return
        document = json.load(file)
    yield from document["items"] if isinstance(document, dict) else document


def _token(path: Path) -> str | None:
    """The token of a kubeconfig that an earlier server wrote."""
    return json.loads(path.read_text())["users"][0]["user"]["token"] if path.exists() else None


def _write(server: ApiServer, path: Path, token: str) -> None:
    """A kubeconfig that is there or not, and never half there: a client may be reading it."""
    server.kubeconfig(path.with_name(path.name + ".new"), token=token).replace(path)


def main() -> int:
    """Run until a signal."""
    arguments = _arguments()
    if arguments.certificates:
        certificates.live_in(arguments.certificates)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    server = ApiServer(
        port=arguments.port,
        history=arguments.history,
        bookmark_period=arguments.bookmark_period,
        watch_list=arguments.watch_list,
    )
    server.clock_offset = arguments.clock_offset
    known = keep(server.store, arguments.keep) if arguments.keep else False
    for path in [] if known else arguments.pods:
        for pod in _objects(path):
            server.pods.put(pod)
    for user, verbs, resources in arguments.grant:
        plural, _, group = resources.partition(".")
        server.grant(user, verbs, plural, group=group)
    with server:
        if arguments.kubeconfig:
            admin = User("kubernetes-admin", (MASTERS,))
            _write(server, arguments.kubeconfig, server.access.add_token(admin, token=_token(arguments.kubeconfig)))
        for user, path in arguments.user_kubeconfig:
            _write(server, Path(path), server.add_user(user, token=_token(Path(path))))
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()
        ended.wait()
        if arguments.events:
            arguments.events.write_text(json.dumps(server.events(), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
