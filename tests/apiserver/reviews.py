"""Reviews of oneself, tokens for service accounts, discovery and version."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from tests.apiserver import kinds
from tests.apiserver.access import Access, Asked, User
from tests.apiserver.answers import Json, bad_request, not_found
from tests.apiserver.selection import Requirement, parse_fields
from tests.apiserver.store import Store

__all__ = [
    "GROUPS",
    "VERSION",
    "access_review",
    "api_groups",
    "api_resources",
    "openapi",
    "openapi_paths",
    "self_review",
    "token_request",
]

VERSION = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": "v1.36.0-test",
    "gitCommit": "0" * 40,
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "go1.27.3",
    "compiler": "gc",
    "platform": "linux/amd64",
}
# Discovery lists them as a cluster does; only those of reviews, roles and NetworkPolicies have resources here.
GROUPS: dict[str, tuple[str, ...]] = {
    "apiregistration.k8s.io": ("v1",),
    "apps": ("v1",),
    "events.k8s.io": ("v1",),
    "authentication.k8s.io": ("v1",),
    "authorization.k8s.io": ("v1",),
    "autoscaling": ("v2", "v1"),
    "batch": ("v1",),
    "certificates.k8s.io": ("v1",),
    "networking.k8s.io": ("v1",),
    "policy": ("v1",),
    "rbac.authorization.k8s.io": ("v1",),
    "storage.k8s.io": ("v1",),
    "admissionregistration.k8s.io": ("v1",),
    "apiextensions.k8s.io": ("v1",),
    "scheduling.k8s.io": ("v1",),
    "coordination.k8s.io": ("v1",),
    "node.k8s.io": ("v1",),
    "discovery.k8s.io": ("v1",),
    "resource.k8s.io": ("v1",),
    "flowcontrol.apiserver.k8s.io": ("v1",),
}
_RBAC = (
    ("clusterroles", "ClusterRole", False),
    ("clusterrolebindings", "ClusterRoleBinding", False),
    ("roles", "Role", True),
    ("rolebindings", "RoleBinding", True),
)
_REVIEWS = {
    "authentication.k8s.io/v1": (("selfsubjectreviews", "SelfSubjectReview"),),
    "authorization.k8s.io/v1": (("selfsubjectaccessreviews", "SelfSubjectAccessReview"),),
}
_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


def api_groups(more: Iterable[str] = ()) -> Json:
    """`/apis`, with `more` groups of v1."""
    groups = []
    for name, versions in {**GROUPS, **dict.fromkeys(more, ("v1",))}.items():
        found = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
        groups.append({"name": name, "versions": found, "preferredVersion": found[0]})
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def api_resources(group_version: str) -> Json:
    """`/api/v1` (group_version `v1`) or `/apis/GROUP/VERSION`."""
    resources: list[Json] = []
    for kind in kinds.KINDS:
        if kind.group_version == group_version:
            base = {"singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind}
            short = {"shortNames": list(kind.short)} if kind.short else {}
            resources.append({"name": kind.plural, **base, "verbs": _VERBS, **short})
            for subresource in kind.subresources:
                name = f"{kind.plural}/{subresource}"
                resources.append({"name": name, **base, "singularName": "", "verbs": ["get", "patch", "update"]})
    for name, review in _REVIEWS.get(group_version, ()):
        resources.append(
            {
                "name": name,
                "singularName": review.lower(),
                "namespaced": False,
                "kind": review,
                "verbs": ["create"],
            }
        )
    if group_version == "rbac.authorization.k8s.io/v1":
        for plural, kind_name, namespaced in _RBAC:
            known = {"singularName": kind_name.lower(), "namespaced": namespaced, "kind": kind_name}
            resources.append({"name": plural, **known, "verbs": _VERBS})
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": resources,
    }


def openapi_paths() -> Json:
    """`/openapi/v3`: of which groups there is a document."""
    groups = ("api/v1", "apis/rbac.authorization.k8s.io/v1", "apis/networking.k8s.io/v1")
    return {"paths": {group: {"serverRelativeURL": f"/openapi/v3/{group}"} for group in groups}}


def openapi(path: str) -> Json:
    """`/openapi/v3/api/v1` or `/openapi/v3/apis/GROUP/VERSION`, as far as kubectl looks before it validates.

    It says that PATCH takes `fieldValidation`: then kubectl leaves the validation of fields to the server.
    """
    group_version = path.removeprefix("api/").removeprefix("apis/")
    group, _, version = group_version.rpartition("/")
    paths: Json = {}
    for resource in api_resources(group_version)["resources"]:
        if "/" in resource["name"] or "patch" not in resource["verbs"]:
            continue
        parameters = [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}]
        kind = {"group": group, "version": version, "kind": resource["kind"]}
        place = "namespaces/{namespace}/" if resource["namespaced"] else ""
        patch = {"parameters": parameters, "x-kubernetes-group-version-kind": kind, "responses": {}}
        paths[f"/{path}/{place}{resource['name']}/{{name}}"] = {"patch": patch}
    info = {"title": "Kubernetes", "version": VERSION["gitVersion"]}
    return {"openapi": "3.0.0", "info": info, "paths": paths}


def _without_empty(value: Any) -> Any:
    """As Go's omitempty leaves it: a namespace of "" is not written."""
    if isinstance(value, dict):
        cleaned = {key: _without_empty(item) for key, item in value.items()}
        return {key: item for key, item in cleaned.items() if item not in ("", None)}
    return value


def _requirements(selector: Json) -> tuple[Requirement, ...]:
    """A review's fieldSelector: raw, or requirements of which `In` with one value is an equality."""
    if selector.get("rawSelector"):
        return parse_fields(selector["rawSelector"])
    return tuple(
        Requirement(item["key"], item["values"][0], item["operator"] == "NotIn")
        for item in selector.get("requirements") or ()
        if item.get("operator") in ("In", "NotIn") and len(item.get("values") or ()) == 1
    )


def access_review(access: Access, user: User, review: Json) -> Json:
    """SelfSubjectAccessReview."""
    spec = _without_empty(review.get("spec") or {})
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if (resource is None) == (path is None):
        raise bad_request("spec: exactly one of nonResourceAttributes or resourceAttributes must be specified")
    if resource is not None:
        asked = Asked(
            verb=resource.get("verb", ""),
            resource=resource.get("resource", ""),
            group=resource.get("group", ""),
            namespace=resource.get("namespace", ""),
            name=resource.get("name", ""),
            subresource=resource.get("subresource", ""),
            fields=_requirements(resource.get("fieldSelector") or {}),
        )
    else:
        asked = Asked(verb=path.get("verb", ""), path=path.get("path", "/"))
    decision = access.decide(user, asked)
    status: Json = {"allowed": decision.allowed}
    if decision.reason:
        status["reason"] = decision.reason
    return {
        "kind": "SelfSubjectAccessReview",
        "apiVersion": "authorization.k8s.io/v1",
        "metadata": {},
        "spec": spec,
        "status": status,
    }


def self_review(user: User) -> Json:
    """SelfSubjectReview: who the server takes the caller for."""
    info: Json = {"username": user.name}
    if user.uid:
        info["uid"] = user.uid
    info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = {key: [value for each, value in user.extra if each == key] for key, _ in user.extra}
    return {
        "kind": "SelfSubjectReview",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"creationTimestamp": kinds.now()},
        "status": {"userInfo": info},
    }


def token_request(access: Access, store: Store, namespace: str, name: str, request: Json) -> Json:
    """TokenRequest: a new token of the service account, which is known until it expires."""
    account = store.collections["serviceaccounts"].get(name, namespace=namespace)
    if account is None:
        raise not_found("serviceaccounts", name)
    spec = request.get("spec") or {}
    seconds = spec.get("expirationSeconds") or 3600
    if access.longest_token is not None:
        seconds = min(seconds, access.longest_token)
    uid = account["metadata"]["uid"]
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    user = User(f"system:serviceaccount:{namespace}:{name}", groups, uid)
    expires = datetime.fromtimestamp(time.time() + seconds, UTC)
    return {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid,
            "creationTimestamp": kinds.now(),
        },
        "spec": {
            "audiences": spec.get("audiences") or ["https://kubernetes.default.svc"],
            "expirationSeconds": seconds,
            "boundObjectRef": spec.get("boundObjectRef"),
        },
        "status": {
            "token": access.add_token(user, lifetime=seconds),
            "expirationTimestamp": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
    }
