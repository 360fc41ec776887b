"""Annotations as the API server takes them: texts, under keys that are qualified names, 256 KiB together.

After `ValidateAnnotations` in k8s.io/apimachinery/pkg/api/validation/objectmeta.go, which holds for every kind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tests.apiserver.answers import bad_request

__all__ = ["validate_annotations"]

Cause = tuple[str, str, str]

_FIELD = "metadata.annotations"
_MOST_BYTES = 256 << 10
_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9_.]{0,61}[a-z0-9])?")
_PREFIX = re.compile(r"(?=.{1,253}$)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")


def validate_annotations(kind: str, metadata: Mapping[str, Any]) -> list[Cause]:
    """Causes for a 422. Raises the 400 for what is no map of texts."""
    annotations = metadata.get("annotations")
    if annotations is None:
        return []
    texts = isinstance(annotations, Mapping) and all(isinstance(value, str) for value in annotations.values())
    if not texts:
        why = "json: cannot unmarshal into Go struct field ObjectMeta.metadata.annotations of type string"
        raise bad_request(f'{kind} in version "v1" cannot be handled as a {kind}: {why}')
    causes = [
        ("FieldValueInvalid", f'Invalid value: "{key}": name part must consist of alphanumeric characters', _FIELD)
        for key in annotations
        if not _qualified(key.lower())
    ]
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > _MOST_BYTES:
        causes.append(("FieldValueTooLong", f"Too long: may not be more than {_MOST_BYTES} bytes", _FIELD))
    return causes


def _qualified(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    return bool(_NAME.fullmatch(name)) and (not slash or bool(_PREFIX.fullmatch(prefix)))
