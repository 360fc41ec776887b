"""Status objects as a kube-apiserver words them, and the exception that carries one to the client."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = [
    "ApiError",
    "already_exists",
    "bad_request",
    "conflict",
    "dump",
    "expired",
    "forbidden",
    "invalid",
    "not_found",
    "status_body",
]

Json = dict[str, Any]


def dump(value: object) -> bytes:
    """Compact JSON in UTF-8, which is how the server sends everything."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


class ApiError(Exception):
    """An answer with a failure Status: `code` is the HTTP status, the rest is the Status body."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: Json | None = None,
        metadata: Json | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.metadata = metadata or {}
        self.headers = dict(headers or {})

    def body(self) -> Json:
        """The Status object, with the keys in the order in which the real server writes them."""
        return status_body(self.code, self.reason, self.message, details=self.details, metadata=self.metadata)


def status_body(
    code: int, reason: str, message: str, *, details: Json | None = None, metadata: Json | None = None
) -> Json:
    """A `Failure` Status."""
    body: Json = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": metadata or {},
        "status": "Failure",
        "message": message,
    }
    if reason:
        body["reason"] = reason
    if details is not None:
        body["details"] = details
    body["code"] = code
    return body


def bad_request(message: str) -> ApiError:
    """400."""
    return ApiError(400, "BadRequest", message)


def not_found(plural: str, name: str, *, group: str = "") -> ApiError:
    """404 for one object."""
    details = {"name": name, **({"group": group} if group else {}), "kind": plural}
    return ApiError(404, "NotFound", f'{_resource(plural, group)} "{name}" not found', details=details)


def already_exists(plural: str, name: str) -> ApiError:
    """409 for a create."""
    return ApiError(409, "AlreadyExists", f'{plural} "{name}" already exists', details={"name": name, "kind": plural})


def conflict(plural: str, name: str) -> ApiError:
    """409 for an update that names an old resourceVersion."""
    return ApiError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {plural} "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again",
        details={"name": name, "kind": plural},
    )


def invalid(kind: str, name: str, causes: Iterable[tuple[str, str, str]]) -> ApiError:
    """422; each cause is (reason, message, field)."""
    found = list(causes)
    texts = [f"{field}: {message}" for _, message, field in found]
    text = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    return ApiError(
        422,
        "Invalid",
        f'{kind} "{name}" is invalid: {text}',
        details={
            "name": name,
            "kind": kind,
            "causes": [{"reason": reason, "message": message, "field": field} for reason, message, field in found],
        },
    )


def forbidden(plural: str, name: str, why: str, *, causes: list[Json] | None = None, group: str = "") -> ApiError:
    """403; `why` is all that follows `is forbidden:`."""
    details: Json = {"name": name} if name else {}
    if group:
        details["group"] = group
    details["kind"] = plural
    if causes:
        details["causes"] = causes
    resource = _resource(plural, group)
    subject = f'{resource} "{name}"' if name else resource
    return ApiError(403, "Forbidden", f"{subject} is forbidden: {why}", details=details)


def _resource(plural: str, group: str) -> str:
    return f"{plural}.{group}" if group else plural


def expired(message: str, *, token: str | None = None) -> ApiError:
    """410; `token` is the continue token with which a client may go on inconsistently."""
    return ApiError(410, "Expired", message, metadata={"continue": token} if token else None)
