"""YAML is read as kubectl reads it."""

from __future__ import annotations

from typing import Any

import pytest

from kiptail.credentials.kubectl_yaml import documents, parse, written

#: Plain scalars and what kubectl 1.32 makes of them, by `kubectl config view --raw -o json`.
SCALARS: dict[str, Any] = {
    **dict.fromkeys(("y", "Y", "yes", "YES", "Yes", "on", "On", "ON", "true", "True", "TRUE"), True),
    **dict.fromkeys(("n", "N", "no", "No", "off", "Off", "false", "False", "FALSE"), False),
    **dict.fromkeys(("~", "null", "Null", "NULL", ""), None),
    **{text: text for text in ("yEs", "tRue", "nULL", "_1", "_", "0b2", "0x", "0xZ", "1e", "1d", "5.5.5", "0.1.")},
    **{text: text for text in ("1:30", "190:20:30.15", "=", "+", ".", "inf", "nan", "Infinity", "0x1p-2")},
    **{text: text for text in ("2020-01-01", "2020-02-31", "2001-12-14t21:59:43.10-05:00", "2001-12-14 21:59:43")},
    "1_0": 10, "1__0": 10, "0_1": 1, "1_": 1, "0x1F": 31, "0x1f_f": 511, "-0x1f": -31, "+0x1f": 31,
    "0b11": 3, "-0b11": -3, "0o17": 15, "0O17": 15, "017": 15, "08": 8, "+5": 5, "-5": -5,
    "1.": 1, ".5": 0.5, "09.5": 9.5, "1_0.5": 10.5, "1e3": 1000, "1E3": 1000, "1e+3": 1000, "12e03": 12_000,
    "!!str 5": "5", '!!int "5"': 5, "!!float 1": 1, "!!binary aHVudGVyMg==": "hunter2",
    "!!timestamp 2020-01-01": "2020-01-01",
    "'5'": "5", '"true"': "true", "!!str": "",
}  # fmt: skip


@pytest.mark.parametrize("text", SCALARS)
def test_a_scalar_is_what_it_is_for_kubectl(text: str) -> None:
    made = parse(f"a: {text}\n".encode())
    assert made == {"a": SCALARS[text]}
    assert isinstance(made, dict)
    assert isinstance(made["a"], bool) == isinstance(SCALARS[text], bool)


@pytest.mark.parametrize(
    "text",
    ["a: !!binary /w==", "a: !!binary x", "a: !foo x", "a: *x", "a: !!python/name:os.system", "a: b: c", "a: [", "\0"],
)
def test_what_is_wrong_shows_nothing_of_it(text: str) -> None:
    with pytest.raises(ValueError, match="not valid YAML") as caught:
        parse(text.encode())
    assert "foo" not in str(caught.value)
    assert "system" not in str(caught.value)


def test_merge_keys_are_merged() -> None:
    assert parse(b"a: &a {x: 1, z: 2}\nb: {<<: *a, z: 3}\n") == {"a": {"x": 1, "z": 2}, "b": {"x": 1, "z": 3}}


def test_several_documents_come_one_after_the_other() -> None:
    assert documents(b"a: 1\n---\n# nothing\n---\n- y\n--- text\n...\n") == [{"a": 1}, [True], "text"]
    assert documents(b"") == documents(b"# nothing\n") == []


@pytest.mark.parametrize(
    "text", ["a: [", "a: 1\n---\na: b: c", "a: *x", "\0", "[" * 5_000, "a: !!python/name:os.system"]
)
def test_documents_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not valid YAML"):
        documents(text.encode())


def test_documents_cannot_grow_without_an_end() -> None:
    """An anchor in one of them is none in the next."""
    bomb = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10) if n else 'x'}]\n" for n in range(8))
    with pytest.raises(ValueError, match="endless"):
        documents(bomb.encode())
    with pytest.raises(ValueError, match="alias"):
        documents(b"a: &a 1\n---\nb: *a\n")


@pytest.mark.parametrize(
    "text", [*SCALARS, "1e3", "y", "a: b", "- x", "#", "", " x ", "\u2028", "\x1b[31m", "é", "x" * 2_000]
)
def test_a_text_that_is_written_is_the_same_text_to_kubectl(text: str) -> None:
    made = written({"key": text, text: [text, 7, True, None]})
    assert parse(made.encode()) == {"key": text, text: [text, 7, True, None]}
    assert made.isascii()
    assert made.replace("\n", "").isprintable()


def test_what_stands_there_twice_is_written_twice() -> None:
    part = {"a": "b"}
    assert written({"one": part, "two": part}) == "one:\n  a: b\ntwo:\n  a: b\n"
