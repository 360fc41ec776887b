"""The headers that the user of a kubeconfig makes (pure): what it says of itself, and whom it wants to be taken for."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from urllib.parse import quote

from kiptail.credentials.files import clean_token
from kiptail.credentials.kubeconfig import Entry
from kiptail.errors import ClusterError

__all__ = ["authorization", "basic", "impersonation"]

#: What a header's name may hold beside letters, digits and _.-~ (RFC 9110, token), but for %, which escapes.
_NAME_SIGNS = "!#$&'*+^`|"


def authorization(user: Entry, choose: Callable[[str], str]) -> str | None:
    """The Authorization header of the token, or name and password, that stands in the kubeconfig; None without.

    ``choose`` has the token to use where there is that one. Raises ClusterError.
    """
    if token := user.value.get("token"):
        return "Bearer " + clean_token(choose(token.strip()), f"{user.where}: the user's token")
    name, password = user.value.get("username"), user.value.get("password")
    # Text in UTF-8, as Go sends it.
    return basic(name.encode(errors="replace"), password.encode(errors="replace")) if name and password else None


def basic(name: bytes, password: bytes) -> str:
    """For HTTP's Basic scheme."""
    return "Basic " + base64.b64encode(name + b":" + password).decode()


def impersonation(user: Entry) -> tuple[tuple[str, str], ...]:
    """Names and values of the headers that have the API server take this for somebody else, as client-go sends them.

    The values are UTF-8 that is written as Latin-1, which http.client makes bytes of. Raises ClusterError.
    """
    name, uid = user.value.get("as", ""), user.value.get("as-uid", "")
    groups, extra = user.value.get("as-groups", []), user.value.get("as-user-extra", {})
    if not name:
        if uid or groups or extra:
            raise ClusterError(f"{user.where}: as-uid, as-groups and as-user-extra are of no use without as")
        return ()
    headers = [("Impersonate-User", "as", name)]
    headers += [("Impersonate-Uid", "as-uid", uid)] if uid else []
    headers += [("Impersonate-Group", "as-groups", group) for group in groups]
    headers += [
        # Names of headers have no case, and the API server takes these for lower case.
        (f"Impersonate-Extra-{quote(key, safe=_NAME_SIGNS, errors='replace').lower()}", "as-user-extra", value)
        for key, values in extra.items()
        for value in values
    ]
    for _, key, value in headers:
        if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
            raise ClusterError(f"{user.where}: {key} holds control characters")
    return tuple((header, value.encode(errors="replace").decode("latin-1")) for header, _, value in headers)
