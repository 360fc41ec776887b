"""What each path and method does: from an authorised request to an answer or a watch."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.apiserver import kinds, reviews
from tests.apiserver.access import Access, Asked, Decision, User
from tests.apiserver.annotations import validate_annotations
from tests.apiserver.answers import ApiError, Json, bad_request, dump, forbidden, invalid, not_found
from tests.apiserver.kinds import Kind
from tests.apiserver.listing import list_objects
from tests.apiserver.patching import merge, strategic_merge
from tests.apiserver.record import Request
from tests.apiserver.selection import parse_fields, truth
from tests.apiserver.store import Collection, Store, Stored
from tests.apiserver.tables import table, wants_table

__all__ = ["Answer", "Api", "asked_of"]

_JSON = "application/json"
_STRATEGIC = "application/strategic-merge-patch+json"
_MERGE = "application/merge-patch+json"
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
_RESOURCE = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+)/(?P<version>[^/]+))"
    # A namespace's own subresources are not resources in it.
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/[^/])(?!/(?:status|finalize)/?$))?"
    r"/(?P<resource>[^/]+)(?:/(?P<name>[^/]+)(?:/(?P<sub>[^/]+))?)?/?"
)
_VERBS = {
    "POST": "create",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
    "GET": "get",
    "HEAD": "get",
}


@dataclass(frozen=True)
class Answer:
    """A whole answer; `parts` are joined by the connection as it sends them."""

    status: int
    parts: list[bytes]
    content_type: str = _JSON
    headers: Mapping[str, str] = field(default_factory=dict)


def _json(value: object, status: int = 200) -> Answer:
    return Answer(status, [dump(value), b"\n"])


def asked_of(method: str, path: str, query: Mapping[str, str]) -> Asked:
    """The attributes that authorizers see, as the real server's RequestInfo resolver finds them."""
    found = _RESOURCE.fullmatch(path)
    if found is None:
        return Asked(verb=method.lower(), path=path)
    resource, name, namespace = found["resource"], found["name"] or "", found["namespace"] or ""
    if resource == "namespaces":
        namespace = name
    verb = _VERBS.get(method, method.lower())
    fields = parse_fields(query.get("fieldSelector", ""))
    if not name and verb == "get":
        verb = "watch" if truth(query, "watch") else "list"
        name = next((term.value for term in fields if term.field == "metadata.name" and not term.negated), "")
    elif not name and verb == "delete":
        verb = "deletecollection"
    return Asked(
        verb=verb,
        resource=resource,
        group=found["group"] or "",
        namespace=namespace,
        name=name,
        subresource=found["sub"] or "",
        fields=fields,
    )


class Api:
    """The API over a store."""

    def __init__(self, store: Store, access: Access) -> None:
        self._store = store
        self._access = access
        self._random = random.Random()
        #: API groups beside the usual ones, as a network plugin brings them: of v1, without resources.
        self.more_groups: tuple[str, ...] = ()

    def authorise(self, user: User, asked: Asked) -> None:
        """403 unless the user may."""
        decision = self._access.decide(user, asked)
        if decision.allowed:
            return
        if asked.path:
            why = f'User "{user.name}" cannot {asked.verb} path "{asked.path}"'
            raise ApiError(403, "Forbidden", f"forbidden: {why}", details={})
        raise forbidden(asked.resource, asked.name, self._denial(user, asked, decision), group=asked.group)

    @staticmethod
    def _denial(user: User, asked: Asked, decision: Decision) -> str:
        resource = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
        where = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
        text = f'User "{user.name}" cannot {asked.verb} resource "{resource}" in API group "{asked.group}"'
        text = f"{text} {where}"
        return f"{text}: {decision.reason}" if decision.reason else text

    def answer(self, user: User, asked: Asked, request: Request) -> Answer:
        """Everything but watches."""
        if asked.path:
            return self._answer_path(asked.path, request)
        if asked.group and not self._stored(asked):
            if asked.group == "rbac.authorization.k8s.io" and asked.verb == "get":
                raise not_found(asked.resource, asked.name, group=asked.group)  # they are rules in Access, no objects
            return self._answer_review(user, asked, request)
        if asked.resource == "serviceaccounts" and asked.subresource == "token" and asked.verb == "create":
            body = reviews.token_request(self._access, self._store, asked.namespace, asked.name, _object(request))
            return _json(body, 201)
        collection = self.collection(asked)
        if asked.subresource and asked.subresource not in collection.kind.subresources:
            raise _no_such_resource()
        handler: dict[str, Callable[[Collection, Asked, Request], Answer]] = {
            "get": self._get,
            "list": self._list,
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_collection,
        }
        if asked.verb not in handler or (asked.verb == "create" and asked.name):
            message = "the server does not allow this method on the requested resource"
            raise ApiError(405, "MethodNotAllowed", message, details={})
        return handler[asked.verb](collection, asked, request)

    def _stored(self, asked: Asked) -> bool:
        collection = self._store.collections.get(asked.resource)
        return collection is not None and collection.kind.group == asked.group

    def collection(self, asked: Asked) -> Collection:
        """The collection, or 404."""
        if not self._stored(asked):
            raise _no_such_resource()
        collection = self._store.collections[asked.resource]
        if asked.namespace and not collection.kind.namespaced and asked.resource != "namespaces":
            raise _no_such_resource()
        return collection

    # -- paths that are no resources

    def _answer_path(self, path: str, request: Request) -> Answer:
        path = path.rstrip("/")
        if path in ("/healthz", "/livez", "/readyz"):
            return Answer(200, [b"ok"], "text/plain; charset=utf-8")
        if path == "/version":
            return _json(reviews.VERSION)
        if path == "/api":
            address = {"clientCIDR": "0.0.0.0/0", "serverAddress": request.headers.get("Host", "")}
            return _json({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [address]})
        if path == "/apis":
            return _json(reviews.api_groups(self.more_groups))
        if path == "/api/v1":
            return _json(reviews.api_resources("v1"))
        if path == "/openapi/v3":
            return _json(reviews.openapi_paths())
        if path.removeprefix("/openapi/v3/") in reviews.openapi_paths()["paths"]:
            return _json(reviews.openapi(path.removeprefix("/openapi/v3/")))
        parts = path.split("/")
        if len(parts) == 4 and parts[1] == "apis" and parts[3] in reviews.GROUPS.get(parts[2], ()):
            return _json(reviews.api_resources(f"{parts[2]}/{parts[3]}"))
        return Answer(404, [b"404 page not found\n"], "text/plain; charset=utf-8")

    def _answer_review(self, user: User, asked: Asked, request: Request) -> Answer:
        if asked.verb == "create" and asked.resource == "selfsubjectaccessreviews":
            return _json(reviews.access_review(self._access, user, _object(request)), 201)
        if asked.verb == "create" and asked.resource == "selfsubjectreviews":
            return _json(reviews.self_review(user), 201)
        raise _no_such_resource()

    # -- reading

    def _get(self, collection: Collection, asked: Asked, request: Request) -> Answer:
        stored = collection.stored(collection.key(asked.namespace, asked.name))
        if stored is None:
            raise not_found(asked.resource, asked.name, group=asked.group)
        if wants_table(request):
            return _json(table(collection, [stored], {"resourceVersion": str(stored.version)}, request))
        return _whole(collection, stored)

    def _list(self, collection: Collection, asked: Asked, request: Request) -> Answer:
        namespace = asked.namespace if collection.kind.namespaced else ""
        page = list_objects(self._store, collection, namespace, request.query)
        if wants_table(request):
            metadata = json.loads(page.head + page.tail)["metadata"]
            return _json(table(collection, page.items, metadata, request))
        parts = [page.head]
        for stored in page.items:
            parts += (stored.body, b",")
        if page.items:
            parts.pop()
        return Answer(200, [*parts, page.tail])

    # -- writing

    def _posted(self, collection: Collection, asked: Asked, request: Request) -> Json:
        """The object in a request's body, checked against the URL."""
        obj = _object(request)
        kind = collection.kind
        if obj.get("kind", kind.kind) != kind.kind or obj.get("apiVersion", kind.group_version) != kind.group_version:
            raise bad_request(
                f'{obj.get("kind")} in version "{obj.get("apiVersion")}" cannot be handled as a {kind.kind}: '
                f'no kind "{obj.get("kind")}" is registered for version "{obj.get("apiVersion")}"'
            )
        metadata = dict(obj.get("metadata") or {})
        if kind.namespaced and metadata.setdefault("namespace", asked.namespace) != asked.namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        return {**obj, "kind": kind.kind, "apiVersion": kind.group_version, "metadata": metadata}

    def _check_namespace(self, kind: Kind, namespace: str, name: str) -> None:
        """Admission's NamespaceLifecycle: 404 without the namespace, 403 while it is being deleted."""
        if not kind.namespaced:
            return
        found = self._store.collections["namespaces"].get(namespace)
        if found is None:
            raise not_found("namespaces", namespace)
        if found["metadata"].get("deletionTimestamp") or found.get("status", {}).get("phase") == "Terminating":
            raise forbidden(
                kind.plural,
                name,
                f"unable to create new content in namespace {namespace} because it is being terminated",
                causes=[
                    {
                        "reason": "NamespaceTerminating",
                        "message": f"namespace {namespace} is being terminated",
                        "field": "metadata.namespace",
                    }
                ],
            )

    def _create(self, collection: Collection, asked: Asked, request: Request) -> Answer:
        kind = collection.kind
        if kind.namespaced and not asked.namespace:
            raise ApiError(
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
                details={},
            )
        obj = self._posted(collection, asked, request)
        metadata = obj["metadata"]
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + "".join(self._random.choices(_SUFFIX, k=5))
        name = metadata.get("name", "")
        if metadata.get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        filled = kind.fill(obj)
        with self._store.lock:
            self._check_namespace(kind, asked.namespace, name)
            if not name:
                why = "Required value: name or generateName is required"
                raise invalid(kind.kind, "", [("FieldValueRequired", why, "metadata.name")])
            _check(kind, filled, name)
            for key in ("uid", "creationTimestamp", "deletionTimestamp"):
                filled["metadata"].pop(key, None)
            if request.query.get("dryRun") == "All":
                return _json(filled, 201)
            return _whole(collection, collection.create(filled), 201)

    def _update(self, collection: Collection, asked: Asked, request: Request) -> Answer:
        wanted = self._posted(collection, asked, request)
        return self._modify(collection, asked, lambda current: wanted)

    def _patch(self, collection: Collection, asked: Asked, request: Request) -> Answer:
        sent = request.headers.get("Content-Type", "").partition(";")[0].strip()
        ways = {_STRATEGIC: strategic_merge, _MERGE: merge}
        if sent not in ways:
            raise ApiError(415, "UnsupportedMediaType", "415: Unsupported Media Type", details={})
        patch = _object(request)
        return self._modify(collection, asked, lambda current: ways[sent](current, patch))

    def _modify(self, collection: Collection, asked: Asked, change: Callable[[Json], Json]) -> Answer:
        """Write what `change` makes of the current object, but for what a client may not change."""
        kind = collection.kind

        def apply(current: Json) -> Json:
            wanted = change(current)
            fixed = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "generation")
            metadata = {**(wanted.get("metadata") or {})}
            if metadata.get("name", asked.name) != asked.name:
                given = f"the name of the object ({metadata['name']})"
                raise bad_request(f"{given} does not match the name on the URL ({asked.name})")
            if metadata.get("namespace", asked.namespace) != asked.namespace and kind.namespaced:
                raise bad_request("the namespace of the object does not match the namespace on the request")
            uid = metadata.get("uid")
            if uid and uid != current["metadata"]["uid"]:
                why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: "
                raise ApiError(
                    409,
                    "Conflict",
                    f'Operation cannot be fulfilled on {kind.plural} "{asked.name}": {why}'
                    + current["metadata"]["uid"],
                    details={"name": asked.name, "kind": kind.plural},
                )
            metadata |= {key: current["metadata"][key] for key in fixed if key in current["metadata"]}
            if asked.subresource == "status":
                version = metadata.get("resourceVersion", current["metadata"]["resourceVersion"])
                kept = {**current["metadata"], "resourceVersion": version}
                return {**current, "metadata": kept, "status": kind.fill_status(wanted.get("status") or {})}
            whole = {**wanted, "kind": kind.kind, "apiVersion": kind.group_version, "metadata": metadata}
            if "status" in kind.subresources:
                whole.pop("status", None)
                if "status" in current:
                    whole["status"] = current["status"]
            else:
                whole = kind.fill(whole)
                whole = {"kind": kind.kind, "apiVersion": kind.group_version, **whole}
            _check(kind, whole, asked.name)
            return whole

        return _whole(collection, collection.modify(collection.key(asked.namespace, asked.name), asked.name, apply))

    def _delete(self, collection: Collection, asked: Asked, request: Request) -> Answer:
        options = _object(request) if request.body else {}
        with self._store.lock:
            stored = collection.stored(collection.key(asked.namespace, asked.name))
            if stored is None:
                raise not_found(asked.resource, asked.name, group=asked.group)
            return self._delete_one(collection, stored, options, request.query)

    def _delete_one(
        self, collection: Collection, stored: Stored, options: Mapping[str, Any], query: Mapping[str, str]
    ) -> Answer:
        obj = collection.load(stored)
        if collection.kind is kinds.PODS:
            grace = options.get("gracePeriodSeconds", query.get("gracePeriodSeconds"))
            left = terminate_pod(collection, stored, None if grace is None else int(grace))
            return _whole(collection, left)
        if collection.kind is kinds.NAMESPACES:
            metadata = {
                **obj["metadata"],
                "deletionTimestamp": obj["metadata"].get("deletionTimestamp", kinds.now()),
            }
            return _json(collection.put({**obj, "metadata": metadata, "status": {"phase": "Terminating"}}))
        collection.remove(stored)
        details = {"name": stored.name, "kind": collection.kind.plural, "uid": obj["metadata"]["uid"]}
        status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": details,
        }
        return _json(status)

    def _delete_collection(self, collection: Collection, asked: Asked, request: Request) -> Answer:
        options = _object(request) if request.body else {}
        with self._store.lock:
            page = list_objects(self._store, collection, asked.namespace, request.query)
            for stored in page.items:
                self._delete_one(collection, stored, options, request.query)
        return Answer(200, [page.head + b",".join(stored.body for stored in page.items) + page.tail])


def terminate_pod(pods: Collection, stored: Stored, grace: int | None) -> Stored:
    """Delete a pod as the API does: mark it with its grace period, and remove it at once only when that is 0.

    The kubelet then deletes it with grace 0. A pod on no node, or a finished one, has no grace.
    """
    obj = pods.load(stored)
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    if grace is None:
        grace = int(spec.get("terminationGracePeriodSeconds") or 0)
    if not spec.get("nodeName") or status.get("phase") in ("Succeeded", "Failed"):
        grace = 0
    metadata = obj["metadata"]
    known = metadata.get("deletionGracePeriodSeconds")
    if known is None or grace < known:
        due = datetime.now(UTC) + timedelta(seconds=grace)
        metadata["deletionTimestamp"] = due.strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata["deletionGracePeriodSeconds"] = grace
        if known is None:
            metadata["generation"] = metadata.get("generation", 1) + 1
        metadata["resourceVersion"] = str(stored.version)
        stored = pods.modify(stored.key, stored.name, lambda current: obj)
    return pods.remove(stored) if grace == 0 else stored


def _whole(collection: Collection, stored: Stored, status: int = 200) -> Answer:
    return Answer(status, [collection.whole(stored), b"\n"])


def _check(kind: Kind, obj: Mapping[str, Any], name: str) -> None:
    causes = validate_annotations(kind.kind, obj.get("metadata") or {}) + kind.validate(obj)
    if causes:
        raise invalid(kind.kind, name, causes)


def _no_such_resource() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource", details={})


def _object(request: Request) -> Json:
    """The JSON object in a request's body, or 400; 415 for Protobuf, in which kubectl sends some reviews."""
    if "protobuf" in request.headers.get("Content-Type", ""):
        accepted = "accepted media types include: application/json"
        message = f"the body of the request was in an unknown format - {accepted}"
        raise ApiError(415, "UnsupportedMediaType", message, details={})
    try:
        value = json.loads(request.body)
    except ValueError as error:
        raise bad_request(f"couldn't get version/kind; json parse error: {error}") from error
    if not isinstance(value, dict):
        raise bad_request("couldn't get version/kind; json parse error: json: cannot unmarshal into Go value")
    return value
