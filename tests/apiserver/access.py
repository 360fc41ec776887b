"""Who a caller is and what they may do: tokens, client certificates, rules, and the node authorizer."""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.apiserver.selection import Requirement

__all__ = ["Access", "Asked", "Decision", "User", "words"]

MASTERS = "system:masters"
NODES = "system:nodes"
NODE_PREFIX = "system:node:"


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated caller."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    #: Keys and values, in pairs.
    extra: tuple[tuple[str, str], ...] = ()

    @property
    def node(self) -> str:
        """The node's name, if the caller is a kubelet."""
        return self.name.removeprefix(NODE_PREFIX) if self.name.startswith(NODE_PREFIX) else ""


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be decided: a verb on a resource, or, when `path` is set, on a path."""

    verb: str
    resource: str = ""
    group: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    path: str = ""
    fields: tuple[Requirement, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """Allowed or not, and why."""

    allowed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Rule:
    verb: str
    resource: str
    group: str
    namespace: str | None
    #: resourceNames: "" is any.
    name: str = ""


@dataclass(slots=True)
class _Token:
    user: User
    expires: float | None


def words(value: str | Iterable[str]) -> tuple[str, ...]:
    """`"list watch"`, `"list,watch"` or an iterable."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else tuple(value)


@dataclass
class Access:
    """Tokens and rules; both may be changed while the server runs.

    `pod_node` tells on which node a pod is (empty if there is none), for the node authorizer.
    """

    pod_node: Callable[[str, str], str]
    anonymous: bool = True
    #: `--service-account-max-token-expiration`, in seconds.
    longest_token: int | None = None
    _tokens: dict[str, _Token] = field(default_factory=dict)
    _rules: dict[str, set[_Rule]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add_token(self, user: User, *, token: str | None = None, lifetime: float | None = None) -> str:
        """Make `token` (or a new one) the user's, for `lifetime` seconds (None: for ever)."""
        expires = None if lifetime is None else time.time() + lifetime
        token = token or _jwt(user, expires)
        with self._lock:
            self._tokens[token] = _Token(user, expires)
        return token

    def revoke_token(self, token: str) -> None:
        """The token is unknown from now on: 401."""
        with self._lock:
            self._tokens.pop(token, None)

    def authenticate(self, authorization: str | None, certificate: Mapping[str, Any] | None) -> User | None:
        """The caller, or None for 401: by client certificate, else bearer token, else anonymous."""
        user = _certified(certificate)
        if user is None and authorization is not None:
            scheme, _, token = authorization.partition(" ")
            with self._lock:
                known = self._tokens.get(token.strip()) if scheme.lower() == "bearer" else None
            if known is None or (known.expires is not None and known.expires <= time.time()):
                return None
            user = known.user
        if user is None:
            return ANONYMOUS if self.anonymous else None
        return User(user.name, tuple(dict.fromkeys((*user.groups, "system:authenticated"))), user.uid)

    def grant(
        self,
        subject: str,
        verbs: str | Iterable[str],
        resources: str | Iterable[str],
        *,
        namespace: str | None = None,
        group: str = "",
        names: Iterable[str] = ("",),
    ) -> None:
        """Allow a user or group the verbs on the resources, everywhere or in one namespace. `*` is any.

        `names` are resourceNames: then only those objects.
        """
        with self._lock:
            rules = self._rules.setdefault(subject, set())
            rules |= {
                _Rule(verb, resource, group, namespace, name)
                for verb in words(verbs)
                for resource in words(resources)
                for name in names
            }

    def apply(self, documents: Iterable[Mapping[str, Any]]) -> None:
        """Grant what these RBAC manifests grant, and no more."""
        found = {(doc["kind"], doc["metadata"]["name"]): doc for doc in documents}
        for (kind, _), binding in found.items():
            if kind not in ("ClusterRoleBinding", "RoleBinding"):
                continue
            role = found[binding["roleRef"]["kind"], binding["roleRef"]["name"]]
            namespace = binding["metadata"]["namespace"] if kind == "RoleBinding" else None
            for subject in binding["subjects"]:
                name = subject["name"]
                if subject["kind"] == "ServiceAccount":
                    name = f"system:serviceaccount:{subject['namespace']}:{name}"
                for rule in role["rules"]:
                    for group in rule["apiGroups"]:
                        names = rule.get("resourceNames") or ("",)
                        self.grant(
                            name, rule["verbs"], rule["resources"], namespace=namespace, group=group, names=names
                        )

    def revoke(
        self,
        subject: str,
        verbs: str | Iterable[str] | None = None,
        resources: str | Iterable[str] | None = None,
    ) -> None:
        """Take back what `grant` gave: these verbs on these resources (None: all)."""
        with self._lock:
            rules = self._rules.get(subject, set())
            rules -= {
                rule
                for rule in rules
                if (verbs is None or rule.verb in words(verbs))
                and (resources is None or rule.resource in words(resources))
            }

    def decide(self, user: User, asked: Asked) -> Decision:
        """Authorizers are OR-ed: masters, what everyone may, the node authorizer, then the rules."""
        if MASTERS in user.groups or _public(user, asked):
            return Decision(True)
        by_node = Decision(False)
        if user.node and NODES in user.groups and not asked.path:
            by_node = self._decide_node(user.node, asked)
            if by_node.allowed:
                return by_node
        resource = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
        with self._lock:
            for subject in (user.name, *user.groups):
                for rule in self._rules.get(subject, ()):
                    if (
                        not asked.path
                        and rule.verb in ("*", asked.verb)
                        and rule.resource in ("*", resource)
                        and rule.group in ("*", asked.group)
                        and rule.namespace in (None, asked.namespace)
                        and rule.name in ("", asked.name)
                    ):
                        whom = f'{"User" if subject == user.name else "Group"} "{subject}"'
                        binding = 'ClusterRoleBinding "test" of ClusterRole "test"'
                        return Decision(True, f"RBAC: allowed by {binding} to {whom}")
        return by_node

    def _decide_node(self, node: str, asked: Asked) -> Decision:
        """The node authorizer and the fixed rules of kubelets, as far as this server has resources."""
        read = asked.verb in ("get", "list", "watch")
        if asked.group == "" and asked.resource == "events":
            return Decision(asked.verb in ("create", "patch", "update"))
        if asked.group == "" and asked.resource == "services":
            return Decision(read)
        if asked.group == "" and asked.resource == "pods" and not asked.subresource:
            return self._decide_node_pod(node, asked)
        if asked.group == "" and asked.resource == "nodes" and read:
            selected = Requirement("metadata.name", node) in asked.fields
            if asked.name == node or selected:
                return Decision(True)
            what = f"'{asked.name}'" if asked.name else "all nodes"
            return Decision(False, f"node '{node}' cannot read {what}, only its own Node object")
        return Decision(False)

    def _decide_node_pod(self, node: str, asked: Asked) -> Decision:
        if asked.verb in ("list", "watch"):
            if Requirement("spec.nodeName", node) in asked.fields:
                return Decision(True)
            if not asked.name:
                return Decision(False, "can only list/watch pods with spec.nodeName field selector")
        if asked.verb in ("get", "list", "watch"):
            if self.pod_node(asked.namespace, asked.name) == node:
                return Decision(True)
            return Decision(False, f"no relationship found between node '{node}' and this object")
        # Mirror pods: a kubelet may create and delete those of its own node.
        return Decision(asked.verb in ("create", "delete"))


def _public(user: User, asked: Asked) -> bool:
    """Health and version are for everyone; discovery and reviews of oneself for all who are authenticated."""
    if asked.path:
        path = asked.path.rstrip("/")
        if path in ("/healthz", "/livez", "/readyz", "/version") or path.startswith(("/livez/", "/readyz/")):
            return asked.verb == "get"
        discovery = path in ("/api", "/apis", "/openapi") or path.startswith(("/api/", "/apis/", "/openapi/"))
        return asked.verb == "get" and discovery and "system:authenticated" in user.groups
    reviews = {
        "authorization.k8s.io": ("selfsubjectaccessreviews", "selfsubjectrulesreviews"),
        "authentication.k8s.io": ("selfsubjectreviews",),
    }
    return (
        asked.verb == "create"
        and asked.resource in reviews.get(asked.group, ())
        and "system:authenticated" in user.groups
    )


def _certified(certificate: Mapping[str, Any] | None) -> User | None:
    """CN is the user, each O a group. `certificate` is what `getpeercert()` gave: verified, or nothing."""
    if not certificate:
        return None
    parts = [pair for part in certificate.get("subject", ()) for pair in part]
    name = next((value for key, value in parts if key == "commonName"), "")
    return User(name, tuple(value for key, value in parts if key == "organizationName")) if name else None


def _jwt(user: User, expires: float | None) -> str:
    """A token that looks like a JWT (clients read `iat` and `exp` from it). Its signature means nothing."""
    claims: dict[str, Any] = {"iss": "https://kubernetes.default.svc", "sub": user.name}
    if expires is not None:
        claims |= {"exp": int(expires), "iat": int(time.time()), "nbf": int(time.time())}
    if user.name.startswith("system:serviceaccount:"):
        namespace, name = user.name.split(":")[2:]
        claims["kubernetes.io"] = {"namespace": namespace, "serviceaccount": {"name": name, "uid": user.uid}}
    parts = [json.dumps(part).encode() for part in ({"alg": "none", "typ": "JWT"}, claims)]
    parts.append(secrets.token_bytes(24))
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
