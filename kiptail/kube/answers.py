"""What answers of the API server have to be, and what is in them (pure).

Whatever is not of the kind that was asked for comes from somebody else, a proxy or a gateway: all raise
:class:`~kiptail.errors.ApiError` for it, whose message begins with ``what``, such as "cannot list pods".
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias

from kiptail.credentials.identity import NOBODY, Identity
from kiptail.kube import strict_json
from kiptail.kube.errors import bad_answer
from kiptail.kube.object_names import is_version
from kiptail.text import one_line

__all__ = [
    "Json",
    "group_names",
    "namespace_of",
    "page_of",
    "require_event",
    "review_allows",
    "reviewed_identity",
    "server_version",
    "token_of",
]

Json: TypeAlias = dict[str, Any]

#: A token for the next page holds the name of an object, and is no longer than this.
CONTINUE_LENGTH = 4_096

_LISTS = {
    "pods": ("PodList", "v1"),
    "nodes": ("NodeList", "v1"),
    "services": ("ServiceList", "v1"),
    "events": ("EventList", "v1"),
    "networkpolicies": ("NetworkPolicyList", "networking.k8s.io/v1"),
}
#: A group's name is a DNS name; an answer has some dozens.
_GROUP_LENGTH = 253
#: RFC 6750: what can stand in a header, and in a file.
_TOKEN = re.compile(r"[-A-Za-z0-9._~+/]{1,65536}=*")


def page_of(plural: str, what: str, body: bytes) -> Json:
    """One page of a list, which has ``items``, a version and, if it is not the last, a token for the next one."""
    kind, api_version = _LISTS[plural]
    page = _object(what, body, kind, api_version)
    if page.get("items") is None:
        page["items"] = []
    metadata = page.get("metadata")
    if not isinstance(page["items"], list) or not isinstance(metadata, dict):
        raise bad_answer(what, f"is no {kind}")
    if not is_version(metadata.get("resourceVersion")):
        raise bad_answer(what, "is a list without a version")
    token = metadata.get("continue") or ""
    if not isinstance(token, str) or len(token) > CONTINUE_LENGTH or not token.isascii():
        raise bad_answer(what, "is a list without an end")
    return page


def namespace_of(what: str, body: bytes, name: str) -> Json:
    """The namespace of this name."""
    namespace = _object(what, body, "Namespace")
    metadata = namespace.get("metadata")
    if not isinstance(metadata, dict) or metadata.get("name") != name:
        raise bad_answer(what, "is another Namespace")
    return namespace


def group_names(what: str, body: bytes) -> frozenset[str]:
    """The names of an APIGroupList."""
    groups = _object(what, body, "APIGroupList").get("groups")
    if not isinstance(groups, list):
        raise bad_answer(what, "is no APIGroupList")
    names = (group.get("name") for group in groups if isinstance(group, dict))
    return frozenset(name for name in names if isinstance(name, str) and len(name) <= _GROUP_LENGTH)


def require_event(what: str, body: bytes, namespace: str, name: str) -> None:
    """Raises ApiError unless that is the Event that was written."""
    metadata = _object(what, body, "Event").get("metadata")
    if not isinstance(metadata, dict) or (metadata.get("namespace"), metadata.get("name")) != (namespace, name):
        raise bad_answer(what, "is another Event")


def review_allows(what: str, body: bytes) -> bool:
    """The answer of a SelfSubjectAccessReview."""
    status = _object(what, body, "SelfSubjectAccessReview", "authorization.k8s.io/v1").get("status")
    allowed = status.get("allowed") if isinstance(status, dict) else None
    if not isinstance(allowed, bool):
        raise bad_answer(what, "is no SelfSubjectAccessReview")
    return allowed


def reviewed_identity(what: str, body: bytes) -> Identity:
    """Whom a SelfSubjectReview says that this is, or :data:`NOBODY`."""
    status = _object(what, body, "SelfSubjectReview", "authentication.k8s.io/v1").get("status")
    info = status.get("userInfo") if isinstance(status, dict) else None
    if not isinstance(info, dict):
        return NOBODY
    user, groups = info.get("username"), info.get("groups")
    known = tuple(group for group in groups if isinstance(group, str)) if isinstance(groups, list) else None
    return Identity(one_line(user, 300) if isinstance(user, str) else "", known)


def token_of(what: str, body: bytes) -> str:
    """The token of a TokenRequest."""
    status = _object(what, body, "TokenRequest", "authentication.k8s.io/v1").get("status")
    token = status.get("token") if isinstance(status, dict) else None
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise bad_answer(what, "holds no token")
    return token


def server_version(what: str, body: bytes) -> str:
    """The version that the server says it has."""
    version = _document(what, body).get("gitVersion")
    if not isinstance(version, str):
        raise bad_answer(what, "holds no version")
    return one_line(version, 60)


def _document(what: str, body: bytes) -> Json:
    """The JSON object. Raises ApiError."""
    try:
        document = strict_json.parse(body)
    except ValueError as error:
        raise bad_answer(what, f"is no JSON ({one_line(str(error), 60)})") from error
    if not isinstance(document, dict):
        raise bad_answer(what, "is no JSON object")
    return document


def _object(what: str, body: bytes, kind: str, api_version: str = "v1") -> Json:
    """The object of this kind. Raises ApiError."""
    document = _document(what, body)
    if document.get("kind") != kind or document.get("apiVersion") != api_version:
        raise bad_answer(what, f"is no {kind}")
    return document
