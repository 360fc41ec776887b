"""The server: its life, its connections, and what tests may do to it."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import yaml

from tests.apiserver import certificates
from tests.apiserver.access import MASTERS, NODE_PREFIX, NODES, Access, User
from tests.apiserver.api import Api, terminate_pod
from tests.apiserver.connection import Connection
from tests.apiserver.faults import Disturbance, Faults
from tests.apiserver.kubeconfig import cluster_entry, user_entry, write_kubeconfig
from tests.apiserver.network import Network
from tests.apiserver.record import Log, Request
from tests.apiserver.store import Collection, Store
from tests.apiserver.watching import Watch

__all__ = ["ApiServer"]

T = TypeVar("T")


class ApiServer:
    """A kube-apiserver for tests, on 127.0.0.1.

    `with ApiServer() as server:` starts and stops it. Collections (`pods`, `events`, `nodes`, `services`,
    `namespaces`, `serviceaccounts`, `network_policies`) are the state: `server.pods.put({...})`, `server.events()`.
    `access` holds tokens and rules, `faults` the switchable faults, `requests(...)` selects from the log of requests.

    `history` bounds the changes kept a kind, `bookmark_period` is in seconds, `watch_list` says what happens
    to `sendInitialEvents`: "serve", "reject" (422) or "ignore" (an ordinary watch). All three may be set at
    any time.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        history: int = 10_000,
        bookmark_period: float = 60.0,
        watch_list: str = "serve",
    ) -> None:
        self.bookmark_period = bookmark_period
        #: How far the clock in its `Date` headers is ahead, in seconds.
        self.clock_offset = 0.0
        self.watch_list = watch_list
        self._changed = threading.Condition()
        self._watches: set[Watch] = set()
        self._lock = threading.Lock()
        self.network = Network(port, self._serve)
        self.store = Store(history=history, changed=self._notify)
        self.access = Access(self._pod_node)
        self.faults = Faults(wake=self.network.wake)
        self.log = Log(self._notify)
        self.api = Api(self.store, self.access)
        self.admin_token = self.access.add_token(User("kubernetes-admin", (MASTERS,)))

    # -- state

    @property
    def pods(self) -> Collection:
        """The pods."""
        return self.store.collections["pods"]

    @property
    def events(self) -> Collection:
        """The Events; `events()` lists them as dicts."""
        return self.store.collections["events"]

    @property
    def nodes(self) -> Collection:
        """The nodes."""
        return self.store.collections["nodes"]

    @property
    def services(self) -> Collection:
        """The services."""
        return self.store.collections["services"]

    @property
    def namespaces(self) -> Collection:
        """The namespaces."""
        return self.store.collections["namespaces"]

    @property
    def network_policies(self) -> Collection:
        """The NetworkPolicies."""
        return self.store.collections["networkpolicies"]

    @property
    def serviceaccounts(self) -> Collection:
        """The service accounts."""
        return self.store.collections["serviceaccounts"]

    def terminate(self, name: str, *, namespace: str, grace: int = 30) -> None:
        """Delete a pod as `kubectl delete` does: it stays, marked, until `pods.delete`; grace 0 ends it."""
        stored = self.pods.stored(self.pods.key(namespace, name))
        if stored is None:
            raise KeyError(name)
        terminate_pod(self.pods, stored, grace)

    def terminate_namespace(self, name: str) -> None:
        """The namespace is being deleted: nothing can be created in it. `namespaces.delete` ends it."""
        self.store.ensure_namespace(name)
        found = self.namespaces.get(name)
        assert found is not None
        found["metadata"]["deletionTimestamp"] = found["metadata"]["creationTimestamp"]
        self.namespaces.put({**found, "status": {"phase": "Terminating"}})

    def compact(self) -> None:
        """Forget the history of all kinds: older resourceVersions are 410 now. Running watches go on."""
        self.store.advance()
        for collection in self.store.collections.values():
            collection.compact()

    @property
    def history(self) -> int:
        """How many changes of each kind are kept."""
        return self.store.history

    @history.setter
    def history(self, value: int) -> None:
        self.store.history = value

    def _pod_node(self, namespace: str, name: str) -> str:
        pod = self.pods.get(name, namespace=namespace) if name else None
        return "" if pod is None else str((pod.get("spec") or {}).get("nodeName", ""))

    # -- callers

    def add_user(self, name: str, *groups: str, token: str | None = None, lifetime: float | None = None) -> str:
        """A bearer token for a user (a `system:node:NAME` gets its group). Rights come from `grant`."""
        if name.startswith(NODE_PREFIX) and not groups:
            groups = (NODES,)
        return self.access.add_token(User(name, groups), token=token, lifetime=lifetime)

    def grant(self, subject: str, verbs: str, resources: str, *, namespace: str | None = None, group: str = "") -> None:
        """Allow a user or a group: `grant("kiptail", "list watch", "pods")`."""
        self.access.grant(subject, verbs, resources, namespace=namespace, group=group)

    def apply(self, manifests: str) -> None:
        """Take in YAML manifests as `kubectl apply` does: service accounts, roles and their bindings."""
        documents = [document for document in yaml.safe_load_all(manifests) if document]
        for document in documents:
            if document["kind"] == "ServiceAccount":
                self.serviceaccounts.put(document)
        self.access.apply(documents)

    def revoke(self, subject: str, verbs: str | None = None, resources: str | None = None) -> None:
        """Take back what `grant` gave (None: all)."""
        self.access.revoke(subject, verbs, resources)

    def kubeconfig(
        self,
        path: Path | str,
        *,
        token: str | None = None,
        token_file: Path | str | None = None,
        client: tuple[str, ...] | None = None,
        ca: str = "embedded",
        server: str | None = None,
        namespace: str | None = None,
        context: str = "test",
        user: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write a kubeconfig (mode 0600; JSON, which is YAML) and return its path.

        The caller is what is given of `token`, `token_file`, a `client` certificate (its name, then its
        groups) and the mapping `user` (say, an `exec`); when nothing is, the administrator. `ca`: "embedded",
        "file" (a path in the kubeconfig), "wrong" (embedded, but another CA), "none" (the system's CAs) or
        "insecure".
        """
        entry = {**(user or {}), **user_entry(token, token_file, client)}
        return write_kubeconfig(
            path,
            cluster_entry(server or self.url, ca),
            entry or {"token": self.admin_token},
            context=context,
            namespace=namespace,
        )

    @property
    def ca_file(self) -> Path:
        """The PEM file of the CA that signed the server's certificate."""
        return certificates.authority().certificate

    # -- life

    @property
    def port(self) -> int:
        """The port; the same after `stop()` and `start()`."""
        return self.network.port

    @property
    def url(self) -> str:
        """`https://127.0.0.1:PORT`."""
        return f"https://127.0.0.1:{self.port}"

    def start(self, *, clear: bool = False) -> ApiServer:
        """Listen (on the same port as before) with the state kept, or an empty cluster with `clear`."""
        if clear and not self.network.running:
            self.store.reset()
        self.network.start()
        return self

    def stop(self) -> None:
        """Close all connections and wait for the threads; clients are refused. State and port are kept."""
        self.network.stop(self._ring_watches)
        self._notify()

    def close(self) -> None:
        """Stop for good and give the port back."""
        self.stop()
        self.network.give_back()

    def __enter__(self) -> ApiServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def freeze(self) -> None:
        """Answer nothing, not even a TLS handshake, like a stopped process (the kernel accepts)."""
        self.network.freeze()

    def thaw(self) -> None:
        """Go on where `freeze` stopped."""
        self.network.thaw()

    # -- watching it

    def requests(
        self,
        method: str | None = None,
        path_prefix: str = "",
        *,
        verb: str | None = None,
        user: str | None = None,
        status: int | None = None,
    ) -> list[Request]:
        """Requests so far that match all that is given, oldest first; unanswered ones have `status` None."""
        return self.log.select(method, path_prefix, verb=verb, user=user, status=status)

    def watches(self, path_prefix: str = "") -> list[Watch]:
        """The watches that are running."""
        with self._lock:
            return [watch for watch in self._watches if watch.request.path.startswith(path_prefix)]

    def disturb(self, disturbance: Disturbance | str, *, path: str = "") -> int:
        """Disturb all running watches (of a path) now: see `Disturbance`.

        Returns how many. For watches that start later see `faults.watch`.
        """
        watches = self.watches(path)
        for watch in watches:
            watch.disturb(Disturbance(disturbance))
        return len(watches)

    def wait_for(self, predicate: Callable[[], T], timeout: float = 10.0, *, message: str = "") -> T:
        """Wait until `predicate()` is true, and return what it gave; else AssertionError.

        It is called again whenever an object or the log of requests changes, and every 20 ms, for it may
        look at other things too.
        """
        deadline = time.monotonic() + timeout
        while True:
            value = predicate()
            if value:
                return value
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(message or f"not within {timeout} s: {predicate}")
            with self._changed:
                self._changed.wait(min(left, 0.02))

    # -- for connections

    def watch_started(self, watch: Watch) -> None:
        """A watch collects changes from now on."""
        with self._lock:
            self._watches.add(watch)
        self._notify()

    def watch_ended(self, watch: Watch) -> None:
        """A watch is over."""
        with self._lock:
            self._watches.discard(watch)
        self._notify()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _ring_watches(self) -> None:
        for watch in self.watches():
            watch.ring()

    def _serve(self, connection: ssl.SSLSocket, address: Any, number: int) -> None:
        Connection(connection, address, self, number)
        self._notify()
