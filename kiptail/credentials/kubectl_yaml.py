"""YAML as kubectl reads it, which is by go-yaml 2: what is a truth value, a number, a text. Kubeconfigs, and objects.

PyYAML differs: it takes ``1:30`` for a number, ``2020-01-01`` for a date, ``y`` and ``1e3`` for texts, ``=`` for
nothing, and makes bytes of ``!!binary``.
"""

from __future__ import annotations

import base64
import math
import re
from typing import Any, ClassVar

import yaml

from kiptail.text import one_line

__all__ = ["LARGEST", "documents", "parse", "written"]

#: Values in a kubeconfig, aliases unfolded; one with a thousand contexts has ten thousand.
LARGEST = 1_000_000
_TAG = "tag:yaml.org,2002:"
#: By go-yaml's resolve.go: the tag, what a plain scalar looks like then, and what it can begin with.
_PLAIN = (
    ("bool", r"y|Y|yes|Yes|YES|on|On|ON|true|True|TRUE|n|N|no|No|NO|off|Off|OFF|false|False|FALSE", "yYoOtTnNfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
    ("int", r"[-+]?(0b[01_]+|0x[0-9A-Fa-f_]+|0[oO]?[0-7_]*|[1-9][0-9_]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - as PyYAML declares it
    bool_values: ClassVar[dict[str, bool]] = {**yaml.SafeLoader.bool_values, "y": True, "n": False}

    def text(self, node: Any) -> str:
        return str(self.construct_scalar(node))

    def binary(self, node: Any) -> str:
        return base64.b64decode(self.text(node)).decode()


for _name, _pattern, _first in _PLAIN:
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_pattern})\\Z"), list(_first))
_Loader.add_constructor(_TAG + "timestamp", _Loader.text)
_Loader.add_constructor(_TAG + "binary", _Loader.binary)


class _Dumper(yaml.SafeDumper):
    """Quotes what is a text and would be something else to kubectl, or to PyYAML; has no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _name, _pattern, _first in _PLAIN:
    _Dumper.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_pattern})\\Z"), list(_first))


def written(value: object) -> str:
    """A document of mappings, lists, texts, numbers and truth values, with all but ASCII escaped."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=1_000))


def documents(data: bytes) -> list[object]:
    """All documents, without empty ones. Raises ValueError as :func:`parse` does."""
    loader = None
    found: list[object] = []
    nodes = 0.0
    try:
        loader = _Loader(data)
        while loader.check_node():
            node: Any = loader.get_node()
            nodes += _unfolded(node, {})
            if nodes > LARGEST:
                raise yaml.MarkedYAMLError(problem="aliases or its size make it endless", problem_mark=node.start_mark)
            found.append(loader.construct_document(node))
    except Exception as error:  # noqa: BLE001 - as in parse()
        raise ValueError(f"not valid YAML{_place(error)}") from None
    finally:
        if loader is not None:
            loader.dispose()
    return [document for document in found if document is not None]


def parse(data: bytes) -> object:
    """The document; None where there is none. Raises ValueError, whose text shows nothing of it: it holds secrets."""
    loader = None
    try:
        loader = _Loader(data)
        node = loader.get_single_node()
        if node is not None and _unfolded(node, {}) > LARGEST:
            # Merge keys (<<) would be unfolded here, names when they are shown.
            raise yaml.MarkedYAMLError(problem="aliases make it endless", problem_mark=node.start_mark)
        return None if node is None else loader.construct_document(node)
    except Exception as error:  # noqa: BLE001 - PyYAML's constructors raise anything, as KeyError for "!!bool maybe"
        raise ValueError(f"not valid YAML{_place(error)}") from None
    finally:
        if loader is not None:
            loader.dispose()


def _place(error: Exception) -> str:
    """What PyYAML found, and where."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if not problem or not mark:
        return ""
    if re.search(r"\b(anchor|alias|tag)\b", problem) and "endless" not in problem:
        # A password that begins with & or * or !, and stands there without quotes, would be the name of it.
        problem = "found an anchor, alias or tag that cannot be (text that begins with & or * or ! needs quotes)"
    return f": {one_line(problem)} in line {mark.line + 1}"


def _unfolded(node: Any, sizes: dict[int, float]) -> float:
    """How many nodes there are where each alias is a copy; infinite where one holds itself.

    ``sizes`` are those of the nodes that were seen, by their id().
    """
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in sizes:
        sizes[id(node)] = math.inf
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        sizes[id(node)] = 1 + sum(_unfolded(part, sizes) for part in parts)
    return sizes[id(node)]
