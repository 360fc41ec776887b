"""Which texts can be names in Kubernetes (pure): what else an answer holds is no object of the API server's.

A name becomes part of a path, of a text and of a row in the state. Source: "Object Names and IDs" and "Labels and
Selectors" in Kubernetes' documentation.
"""

from __future__ import annotations

import re
from typing import TypeGuard

__all__ = ["is_label_value", "is_name", "is_namespace", "is_port_name", "is_uid", "is_version"]

_NAME = re.compile(r"[a-z0-9](?:[-.a-z0-9]{0,251}[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9](?:[-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?")
#: IANA's service name, RFC 6335: with a letter, and no two hyphens in a row.
_PORT_NAME = re.compile(r"(?=[^a-z]*[a-z])[a-z0-9]+(?:-[a-z0-9]+)*")
#: Neither is specified: a UID is a UUID or, of a static pod, a hash; a resourceVersion is a decimal number.
_OPAQUE = re.compile(r"[!-~]{1,128}")


def is_name(value: object) -> TypeGuard[str]:
    """A DNS subdomain name: a pod's, a node's, a Service's."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def is_namespace(value: object) -> TypeGuard[str]:
    """A DNS label."""
    return isinstance(value, str) and _NAMESPACE.fullmatch(value) is not None


def is_port_name(value: object, *, longest: int = 15) -> TypeGuard[str]:
    """What a port is called, in lower case as in Kubernetes; a Service's may have 63 characters."""
    return isinstance(value, str) and len(value) <= longest and _PORT_NAME.fullmatch(value) is not None


def is_label_value(value: object) -> TypeGuard[str]:
    """The value of a label, and not an empty one."""
    return isinstance(value, str) and _LABEL_VALUE.fullmatch(value) is not None


def is_uid(value: object) -> TypeGuard[str]:
    """A ``metadata.uid``."""
    return isinstance(value, str) and _OPAQUE.fullmatch(value) is not None


def is_version(value: object) -> TypeGuard[str]:
    """A ``metadata.resourceVersion``."""
    return isinstance(value, str) and _OPAQUE.fullmatch(value) is not None
