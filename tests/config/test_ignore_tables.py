"""Filters as they are written: in tables, in texts, and what is refused, with its place."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.config.ignore_tables import KEYS, MOST_FILTERS, filter_of_text, filters_of
from kiptail.config.settings import Settings, resolve
from kiptail.errors import SettingsError
from kiptail.quiet.filter import Filter, Place

NOW_US = 1_800_000_000_000_000


def settings(tmp_path: Path, toml: str = "", environ: dict[str, str] | None = None, **flags: object) -> Settings:
    file = tmp_path / "kiptail.toml"
    file.write_text(f'prefix = ["calico-drop:"]\n{toml}')
    return resolve({"config": str(file), **flags}, environ or {}, now_us=NOW_US)


def without_text(filters: tuple[Filter, ...]) -> list[Any]:
    return [(each.src, each.ports, each.namespaces, each.noise, each.reason, each.everything) for each in filters]


@pytest.mark.parametrize(
    ("toml", "text"),
    [
        ('src = "198.51.100.0/24"\nport = 22', "src=198.51.100.0/24 port=22"),
        ('src = ["198.51.100.0/24", "node"]', "src=198.51.100.0/24,node"),
        ('dst = "fd00::1"\nport = [22, "8000-8100"]', "dst=fd00::1 port=22,8000-8100"),
        ('peer = "outside"\nprotocol = ["tcp", 47]\nreason = "x"', "peer=outside protocol=tcp,47 reason=x"),
        ('namespace = ["team-*", "default"]\nwhat = "all"', "namespace=team-*,default what=all"),
        ('pod = "app in (a, b)"', "pod='app in (a, b)'"),
        ('icmp = [8, "3/1", "echo-reply"]', "icmp=8,3/1,echo-reply"),
        ('direction = "sent"\nverdict = ["drop", "reject"]', "direction=sent verdict=drop,reject"),
        ('prefix = "my drop, x:"\npolicy = "a, b"', "prefix='my drop, x:' policy='a, b'"),
        ("reply = true", "reply=true"),
        ("reply = false", "reply=no"),
        ('name = "replies"', "replies"),
        ('name = "replies"', "name=replies"),
        ('name = "multicast"\nwhat = "events"\nreason = "m"', "multicast what=events reason=m"),
    ],
)
def test_a_table_and_a_text_say_the_same(toml: str, text: str, tmp_path: Path) -> None:
    (of_table,) = settings(tmp_path, f"[[ignore]]\n{toml}\n").ignore
    of_text = filter_of_text(text)
    for name in Filter.__slots__:
        assert name == "text" or getattr(of_table, name) == getattr(of_text, name), name


def test_what_is_not_said_does_not_matter_and_events_are_what_is_left_out() -> None:
    made = filter_of_text("port=22")
    assert made == Filter(ports=((22, 22),), reason="filter", everything=False, text="port=22")
    assert filter_of_text("probes").reason == "probes"
    assert filter_of_text("src=192.0.2.1,fd00::1,service").src == (
        ip_network("192.0.2.1/32"),
        ip_network("fd00::1/128"),
        Place.SERVICE,
    )


def test_texts_and_tables_stand_in_one_list_in_their_order(tmp_path: Path) -> None:
    found = settings(tmp_path, 'ignore = ["replies", { port = 22 }, "src=192.0.2.0/24 what=all"]').ignore
    assert [(each.noise, each.ports, each.everything) for each in found] == [
        ("replies", (), False),
        ("", ((22, 22),), False),
        ("", (), True),
    ]


def test_flags_and_variables_win_over_the_file(tmp_path: Path) -> None:
    file = "[[ignore]]\nport = 1\n[[ignore]]\nport = 2\n"
    variable = {"KIPTAIL_IGNORE": "port=3\n\n replies \n"}
    assert [each.text for each in settings(tmp_path, file).ignore] == ["port=1", "port=2"]
    assert [each.text for each in settings(tmp_path, file, variable).ignore] == ["port=3", "name=replies"]
    assert [each.text for each in settings(tmp_path, file, variable, ignore=("port=4",)).ignore] == ["port=4"]
    assert settings(tmp_path).ignore == ()


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('[[ignore]]\nport = 1\n[[ignore]]\nsource = "x"', "key ignore, table 2: unknown key 'source': "),
        ('[[ignore]]\nports = 1', "key ignore, table 1: unknown key 'ports': did you mean port?"),
        ('ignore = ["replies", "prot=1"]', "key ignore, item 2: 'prot=1' cannot be used: unknown key 'prot'"),
        ('ignore = ["reply"]', "item 1: 'reply' cannot be used: name: 'reply' is no name of known noise, "),
        ('[[ignore]]\nsrc = "198.51.100.1/24"', "table 1: src: '198.51.100.1/24' has address bits beyond its "),
        ('[[ignore]]\nsrc = "nodes"', "src: 'nodes' is no address or range such as 198.51.100.0/24 or fd00::/8, "),
        ('[[ignore]]\nsrc = 4', "src is no text, or a list of texts"),
        ('[[ignore]]\nsrc = []', "src has 0 values: write 1 to 1000"),
        ('[[ignore]]\nport = "80-22"', "port: '80-22' is no port or range of ports: write 22 or 8000-8100"),
        ('[[ignore]]\nport = [1, 65536]', "port: '65536' is no port"),
        ('[[ignore]]\nport = true', "port is no text, or a list of texts"),
        ('[[ignore]]\nport = -1', "port: '-1' is no port"),
        ('[[ignore]]\nprotocol = "tpc"', "protocol: 'tpc' is no protocol"),
        ('[[ignore]]\nprotocol = 256', "protocol: '256' is no protocol"),
        ('[[ignore]]\nicmp = "3/256"', "icmp: '3/256' is no ICMP message"),
        ('[[ignore]]\nicmp = "ping"', "icmp: 'ping' is no ICMP message"),
        ('[[ignore]]\nnamespace = "team_a"', "namespace: 'team_a' is no namespace"),
        ('[[ignore]]\nnamespace = "*-*-*-*-*"', "namespace: '*-*-*-*-*' has more than 4 stars"),
        ('[[ignore]]\npod = "app>1"', "pod: 'app>1' is no label selector"),
        ('[[ignore]]\npod = ["a"]', "pod is no text"),
        ('[[ignore]]\ndirection = "in"', "direction: 'in' is none of sent, received"),
        ('[[ignore]]\nverdict = "deny"', "verdict: 'deny' is none of drop, reject, log, accept"),
        ('[[ignore]]\nreply = "perhaps"', "reply: 'perhaps' is neither true nor false"),
        ('[[ignore]]\nreply = 1', "reply is no true or false"),
        ('[[ignore]]\nprefix = " "', "prefix: '' is empty, too long, or has control characters in it"),
        ('[[ignore]]\npolicy = "a\\u001bb"', "policy: 'a b' is empty, too long, or has control characters in it"),
        ('[[ignore]]\nport = 1\nreason = "a b"', "reason: 'a b' is no word for the metrics"),
        ('[[ignore]]\nport = 1\nwhat = "none"', "what: 'none' is none of events, all"),
        ('[[ignore]]\nname = "noise"', "name: 'noise' is no name of known noise"),
        ('[[ignore]]\nwhat = "all"', "table 1: would leave out everything: write what it is about, such as port = 22"),
        ('[[ignore]]', "table 1: would leave out everything"),
        ("ignore = 1", "key ignore: is no list of filters: write [[ignore]], port = 22, or ignore = [\"replies\"]"),
        ("ignore = [1]", "key ignore: is no list of filters"),
        ('ignore = "replies"', "key ignore: is no list of filters"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named_with_its_place(toml: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as error:
        settings(tmp_path, toml)
    text = str(error.value)
    assert text.startswith(f"{tmp_path}/kiptail.toml: key ignore")
    assert said in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port=x", "--ignore: 'port=x' cannot be used: port: 'x' is no port"),
        ("nosuch=1 port=1", "--ignore: 'nosuch=1 port=1' cannot be used: unknown key 'nosuch'"),
        ("port=1 port=2", "has 'port' twice: write port=ONE,OTHER where any of them is meant"),
        ("replies probes", "has 'name' twice"),
        ("pod='app", "has a quotation mark without its end"),
        ("src=", "src: '' is no address"),
        ("port=1,", "port: '' is no port"),
        ("=1", "unknown key ''"),
        ("reason=x", "would leave out everything"),
    ],
)
def test_a_text_that_is_refused_is_quoted(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as error:
        settings(tmp_path, ignore=(text,))
    assert said in str(error.value)


def test_an_empty_variable_says_nothing(tmp_path: Path) -> None:
    assert settings(tmp_path, environ={"KIPTAIL_IGNORE": ""}).ignore == ()


def test_there_are_bounds(tmp_path: Path) -> None:
    many = "".join(f"[[ignore]]\nport = {n}\n" for n in range(MOST_FILTERS + 1))
    with pytest.raises(SettingsError, match="key ignore: 2001 filters are more than the 2000 that are allowed"):
        settings(tmp_path, many)
    reasons = "".join(f'[[ignore]]\nport = {n}\nreason = "r{n}"\n' for n in range(101))
    with pytest.raises(SettingsError, match="101 different reasons are more than the 100 that are allowed"):
        settings(tmp_path, reasons)
    with pytest.raises(SettingsError, match="port has 1001 values: write 1 to 1000"):
        settings(tmp_path, f"[[ignore]]\nport = {list(range(1001))}")


TEXTS = st.text(max_size=12) | st.sampled_from(["10.0.0.0/8", "22", "all", "replies", "'", "=", "a=b", "true", "*"])


@given(st.lists(st.tuples(st.sampled_from([*KEYS, "x", ""]), TEXTS), max_size=4))
def test_any_text_makes_a_filter_or_one_line_of_what_is_wrong(parts: list[tuple[str, str]]) -> None:
    text = " ".join(f"{key}={value}" for key, value in parts)
    said = ""
    try:
        filter_of_text(text)
    except ValueError as error:
        said = str(error)
    assert said.isprintable()


VALUES = st.recursive(
    TEXTS | st.integers() | st.booleans() | st.floats(), lambda inner: st.lists(inner, max_size=3), max_leaves=4
)


@given(st.lists(st.dictionaries(st.sampled_from([*KEYS, "x"]), VALUES, max_size=4) | TEXTS | st.integers(), max_size=4))
def test_any_tables_make_filters_or_one_line_of_what_is_wrong(tables: list[Any]) -> None:
    said = "f: key ignore"
    try:
        filters_of(tables, "f: key ignore")
    except SettingsError as error:
        said = str(error)
    assert said.startswith("f: key ignore")
    assert said.isprintable()
