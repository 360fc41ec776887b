"""Objects from files that kubectl wrote: JSON or YAML, Lists, several documents; what is no such file is refused."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from kiptail import inputfile
from kiptail.credentials import kubectl_yaml
from kiptail.errors import SettingsError
from kiptail.policies.cluster import Objects
from kiptail.text import one_line

__all__ = ["files_of", "load_objects"]

#: 20,000 pods have 300 MB.
MOST_BYTES = 1 << 30
#: Of YAML, which takes a minute for so much.
MOST_YAML_BYTES = 16 << 20

#: Files of a directory that are read.
_SUFFIXES = (".json", ".yaml", ".yml")

_REMEDY = "make it with `kubectl get pods,namespaces,networkpolicies -A -o json > FILE`"
_STDIN = Path("/dev/stdin")


def load_objects(paths: Iterable[Path], *, flag: str = "--objects", into: Objects | None = None) -> Objects:
    """What stands in the files, of which ``-`` is the standard input; of each name the last one counts.

    ``flag`` is what names them, ``into`` what is known already. Raises SettingsError.
    """
    objects = Objects() if into is None else into
    for path in paths:
        shown = f"{flag}: {one_line(str(path))}"
        try:
            data = inputfile.read(_STDIN if str(path) == "-" else path, MOST_BYTES)
        except OSError as error:
            raise SettingsError(f"{shown} cannot be read: {error.strerror}; {_REMEDY}") from error
        for document in _documents(data, shown):
            if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
                raise SettingsError(f"{shown} holds something that is no Kubernetes object; {_REMEDY}")
            _take(document, objects)
    return objects


def files_of(path: Path, *, flag: str) -> list[Path]:
    """The file, or those of a directory that can be objects, by their names. Raises SettingsError."""
    try:
        if not path.is_dir():
            return [path]
        files = sorted(each for each in path.iterdir() if each.suffix in _SUFFIXES and each.is_file())
    except OSError as error:
        raise SettingsError(f"{flag}: {one_line(str(path))} cannot be read: {error.strerror}") from error
    if not files:
        raise SettingsError(f"{flag}: {one_line(str(path))} holds no file that ends with {', '.join(_SUFFIXES)}")
    return files


def _documents(data: bytes, shown: str) -> list[object]:
    try:
        return list(_json_documents(data))
    except (ValueError, RecursionError):
        pass
    if len(data) > MOST_YAML_BYTES:
        raise SettingsError(f"{shown} is no JSON, and too large for YAML ({MOST_YAML_BYTES >> 20} MiB); {_REMEDY}")
    try:
        return kubectl_yaml.documents(data)
    except ValueError as error:
        raise SettingsError(f"{shown} is no JSON, and {error}; {_REMEDY}") from error


def _json_documents(data: bytes) -> Iterator[object]:
    """One after another, with white space in between. Raises ValueError."""
    text = data.decode(json.detect_encoding(data)).lstrip("\ufeff")
    decoder = json.JSONDecoder()
    position = len(text) - len(text.lstrip())
    while position < len(text):
        document, position = decoder.raw_decode(text, position)
        yield document
        while position < len(text) and text[position].isspace():
            position += 1


def _take(document: dict[str, object], objects: Objects) -> None:
    """An object, or those of a list, of which the items may have no kind of their own (``PodList``)."""
    todo: list[tuple[object, str, str]] = [(document, "", "")]
    while todo:
        obj, kind, api_version = todo.pop()
        own, items = (obj.get("kind"), obj.get("items")) if isinstance(obj, dict) else (None, None)
        if isinstance(obj, dict) and isinstance(own, str) and own.endswith("List") and isinstance(items, list):
            version = obj.get("apiVersion")
            of = own.removesuffix("List")
            todo += [(item, of, version if of and isinstance(version, str) else "") for item in reversed(items)]
        else:
            objects.take(obj, kind, api_version)
