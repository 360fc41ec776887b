"""Whom a caller wants to be taken for, as k8s.io/apiserver's WithImpersonation reads it from the headers."""

from __future__ import annotations

from collections.abc import Callable
from email.message import Message
from urllib.parse import unquote

from tests.apiserver.access import Asked, User
from tests.apiserver.answers import ApiError

__all__ = ["impersonated"]

_EXTRA = "impersonate-extra-"
_AUTHENTICATION = "authentication.k8s.io"


def impersonated(user: User, headers: Message, authorise: Callable[[User, Asked], None]) -> User:
    """The user that `user` wants to be; 403 where it may not, 500 for what makes no sense."""
    # http.server reads headers as Latin-1; they are UTF-8.
    given = [(name.lower(), value.encode("latin-1").decode()) for name, value in headers.items()]
    name = next((value for key, value in given if key == "impersonate-user"), "")
    groups = tuple(value for key, value in given if key == "impersonate-group")
    uid = next((value for key, value in given if key == "impersonate-uid"), "")
    extra = tuple((unquote(key.removeprefix(_EXTRA)), value) for key, value in given if key.startswith(_EXTRA))
    if not name:
        if groups or uid or extra:
            raise ApiError(500, "InternalError", "requested impersonation details without impersonating a user")
        return user
    authorise(user, Asked("impersonate", "users", name=name))
    for group in groups:
        authorise(user, Asked("impersonate", "groups", name=group))
    for key, value in extra:
        authorise(user, Asked("impersonate", "userextras", _AUTHENTICATION, name=value, subresource=key))
    if uid:
        authorise(user, Asked("impersonate", "uids", _AUTHENTICATION, name=uid))
    return User(name, tuple(dict.fromkeys((*groups, "system:authenticated"))), uid, extra)
