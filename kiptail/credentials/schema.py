"""What the keys of a kubeconfig have to be, as kubectl takes it: k8s.io/client-go/tools/clientcmd/api/v1 (pure).

``null`` is as good as nothing, keys that kubectl does not know do not matter, and nothing is turned into another type:
``insecure-skip-tls-verify: "false"`` is neither true nor false.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

__all__ = ["KEYS", "Json", "decoded", "typed"]

Json: TypeAlias = dict[str, Any]
T = TypeVar("T")
#: Makes a value of the type, of a value that is not None; ``at`` is its place, such as ``users[0].user.token``.
#: Raises ValueError, with the place and without the value.
Kind: TypeAlias = Callable[[str, object], Any]


def decoded(data: str) -> bytes:
    """Base64 as Go reads it: line breaks do not matter, all else does. Raises ValueError."""
    text = data.replace("\r", "").replace("\n", "")
    if len(text) % 4:
        raise ValueError("not a multiple of four letters")  # which Python lets pass behind what is complete
    return base64.b64decode(text, validate=True)


def _text(at: str, value: object) -> str:
    return _of(at, value, str, "text")


def _path(at: str, value: object) -> str:
    return _of(at, value, str, "a path")


def _truth(at: str, value: object) -> bool:
    return _of(at, value, bool, "true or false")


def _base64(at: str, value: object) -> str:
    text = _of(at, value, str, "base64")
    try:
        decoded(text)
    except ValueError:
        raise _refusal(at, "base64") from None
    return text


def _anything(_: str, value: object) -> object:
    return value


def _of(at: str, value: object, wanted: type[T], form: str) -> T:
    if not isinstance(value, wanted):
        raise _refusal(at, form)
    return value


def _refusal(at: str, form: str) -> ValueError:
    return ValueError(f"{at or 'it'} is not {form}")


def _list(kind: Kind, empty: object, form: str = "a list") -> Kind:
    """``empty`` stands for a ``null`` in it."""

    def make(at: str, value: object) -> list[Any]:
        items = _of(at, value, list, form)
        return [empty if item is None else kind(f"{at}[{number}]", item) for number, item in enumerate(items)]

    return make


def _map(kind: Kind, empty: object, form: str) -> Kind:
    """Its keys are any texts; JSON makes texts of numbers and truth values."""

    def make(at: str, value: object) -> Json:
        made: Json = {}
        for key, item in _of(at, value, dict, form).items():
            if not isinstance(key, str | int):
                raise _refusal(at, form)
            name = str(key).lower() if isinstance(key, bool) else str(key)
            # The key is not shown: it may be a secret that has slipped.
            made[name] = empty if item is None else kind(f"a value of {at}", item)
        return made

    return make


def _struct(keys: Mapping[str, Kind]) -> Kind:
    def make(at: str, value: object) -> Json:
        given = _of(at, value, dict, "a mapping")
        begin = f"{at}." if at else ""
        return {key: kind(begin + key, given[key]) for key, kind in keys.items() if given.get(key) is not None}

    return make


_TEXTS = _list(_text, "", "a list of texts")
_EXTENSIONS = _list(_struct({"name": _text, "extension": _anything}), {})
_CLUSTER: dict[str, Kind] = {
    "server": _text,
    "tls-server-name": _text,
    "insecure-skip-tls-verify": _truth,
    "certificate-authority": _path,
    "certificate-authority-data": _base64,
    "proxy-url": _text,
    "disable-compression": _truth,
    "extensions": _EXTENSIONS,
}
_EXEC: dict[str, Kind] = {
    "command": _text,
    "args": _TEXTS,
    "env": _list(_struct({"name": _text, "value": _text}), {}, "a list of names and values"),
    "apiVersion": _text,
    "installHint": _text,
    "provideClusterInfo": _truth,
    "interactiveMode": _text,
}
_USER: dict[str, Kind] = {
    "client-certificate": _path,
    "client-certificate-data": _base64,
    "client-key": _path,
    "client-key-data": _base64,
    "token": _text,
    "tokenFile": _path,
    "as": _text,
    "as-uid": _text,
    "as-groups": _TEXTS,
    "as-user-extra": _map(_TEXTS, [], "a mapping of lists of texts"),
    "username": _text,
    "password": _text,
    "auth-provider": _struct({"name": _text, "config": _map(_text, "", "a mapping of texts")}),
    "exec": _struct(_EXEC),
    "extensions": _EXTENSIONS,
}
_CONTEXT: dict[str, Kind] = {"cluster": _text, "user": _text, "namespace": _text, "extensions": _EXTENSIONS}
#: Those of the document.
KEYS: dict[str, Kind] = {
    "kind": _text,
    "apiVersion": _text,
    "preferences": _struct({"colors": _truth, "extensions": _EXTENSIONS}),
    "clusters": _list(_struct({"name": _text, "cluster": _struct(_CLUSTER)}), {}),
    "users": _list(_struct({"name": _text, "user": _struct(_USER)}), {}),
    "contexts": _list(_struct({"name": _text, "context": _struct(_CONTEXT)}), {}),
    "current-context": _text,
    "extensions": _EXTENSIONS,
}


def typed(document: object) -> Json:
    """The document with the keys that kubectl knows, each of its type, without those that are ``null``.

    Raises ValueError, which names a key and shows no value.
    """
    made: Json = _struct(KEYS)("", document)
    if made.get("kind", "Config") not in ("", "Config") or made.get("apiVersion", "v1") not in ("", "v1"):
        raise ValueError("kind and apiVersion are not Config and v1")
    return made
