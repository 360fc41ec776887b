"""Objects from files: in which forms, and what is refused with which words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kiptail.errors import SettingsError
from kiptail.policies import object_files
from kiptail.policies.object_files import files_of, load_objects
from tests.support.policies import namespace, policy, workload_pod

ITEMS = (workload_pod("a", "10.0.0.1"), namespace("team-a", team="a"), policy("p"))
LIST = {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": list(ITEMS)}
BARE = [{key: value for key, value in item.items() if key not in ("kind", "apiVersion")} for item in ITEMS]
TYPED = (
    {"apiVersion": "v1", "kind": "PodList", "items": BARE[:1]},
    {"apiVersion": "v1", "kind": "NamespaceList", "items": BARE[1:2]},
    {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicyList", "items": BARE[2:]},
)
FORMS: dict[str, bytes] = {
    "a list in JSON": json.dumps(LIST).encode(),
    "a list in YAML": yaml.safe_dump(LIST).encode(),
    "documents in JSON": "\n\n".join(json.dumps(item, indent=1) for item in ITEMS).encode(),
    "documents in YAML": yaml.safe_dump_all([*ITEMS, None]).encode(),
    "lists in YAML": yaml.safe_dump_all(TYPED).encode(),
    "the API server's own lists": "\n".join(map(json.dumps, TYPED)).encode(),
    "a list of lists": json.dumps({"kind": "List", "apiVersion": "v1", "items": list(TYPED)}).encode(),
    "JSON as PowerShell writes it": json.dumps(LIST).encode("utf-16"),
    "JSON with a mark in front": b"\xef\xbb\xbf \n" + json.dumps(LIST).encode(),
    "YAML as PowerShell writes it": yaml.safe_dump(LIST).encode("utf-16"),
}


def written(directory: Path, data: bytes, name: str = "objects") -> Path:
    path = directory / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_it_is_read_in_each_form(form: str, tmp_path: Path) -> None:
    objects = load_objects([written(tmp_path, FORMS[form])])
    assert list(objects.pods) == ["team-a/a"]
    assert list(objects.policies) == ["team-a/p"]
    assert objects.namespaces == {"team-a": {"team": "a"}}
    assert objects.refusals() == []


def test_several_files_are_one_cluster_and_the_later_one_counts(tmp_path: Path) -> None:
    paths = [
        written(tmp_path, json.dumps(item).encode(), f"{number}")
        for number, item in enumerate((*ITEMS, policy("p", policyTypes=["Egress"])))
    ]
    objects = load_objects(paths)
    assert list(objects.pods) == ["team-a/a"]
    assert objects.policies["team-a/p"].ingress is None


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"just text", "no Kubernetes object"),
        (b"7", "no Kubernetes object"),
        (b"[]", "no Kubernetes object"),
        (b"{}", "no Kubernetes object"),
        (b'{"kind": 7}', "no Kubernetes object"),
        (b'{"kind": "Pod"', "not valid YAML"),
        (b"a: [", "not valid YAML"),
        (b"\xff\xfe\xfd", "not valid YAML"),
        (b"\x00\x01\x02", "not valid YAML"),
        (b"[" * 100_000, "not valid YAML"),
        (b'{"kind":' * 100_000, "not valid YAML"),
        (b'{"kind": ' + b"1" * 10_000 + b"}", "no Kubernetes object|not valid YAML"),
    ],
)
def test_what_is_none_is_refused_in_one_line(data: bytes, why: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=why) as caught:
        load_objects([written(tmp_path, data)])
    text = str(caught.value)
    assert text.startswith(f"--objects: {tmp_path}/objects ")
    assert "kubectl get pods,namespaces,networkpolicies -A -o json" in text
    assert text.isprintable()


def test_an_empty_file_holds_nothing(tmp_path: Path) -> None:
    assert load_objects([written(tmp_path, b"")]).pods == {}


def test_what_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_files, "MOST_YAML_BYTES", 1 << 20)
    with pytest.raises(SettingsError, match="too large for YAML"):
        load_objects([written(tmp_path, b"# " + b"x" * (1 << 20))])
    monkeypatch.setattr(object_files, "MOST_BYTES", 1 << 20)
    with pytest.raises(SettingsError, match="larger than 1 MiB"):
        load_objects([written(tmp_path, b" " * (1 << 20) + b"{}")])


def test_items_that_are_none_are_counted(tmp_path: Path) -> None:
    odd: list[Any] = [7, None, "x", [], {"kind": "List", "apiVersion": "v1", "items": {}}, *ITEMS]
    objects = load_objects([written(tmp_path, json.dumps({**LIST, "items": odd}).encode())])
    assert objects.refusals() == ["4 objects cannot be used: is no object"]
    assert list(objects.pods) == ["team-a/a"]


def test_the_files_of_a_directory_are_those_that_can_be_objects(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.json", "c.yml", "README.md", ".hidden"):
        (tmp_path / name).write_text("")
    (tmp_path / "d.yaml").mkdir()
    assert [path.name for path in files_of(tmp_path, flag="--policies")] == ["a.json", "b.yaml", "c.yml"]
    assert files_of(tmp_path / "README.md", flag="--policies") == [tmp_path / "README.md"]
    with pytest.raises(SettingsError, match=r"^--policies: .* holds no file that ends with \.json, \.yaml, \.yml$"):
        files_of(tmp_path / "d.yaml", flag="--policies")


def test_what_is_known_already_stays_and_the_flag_is_named(tmp_path: Path) -> None:
    known = load_objects([written(tmp_path, FORMS["a list in JSON"])])
    more = written(tmp_path, json.dumps(policy("q")).encode(), "more")
    assert load_objects([more], into=known) is known
    assert list(known.policies) == ["team-a/p", "team-a/q"]
    with pytest.raises(SettingsError, match=r"^--policies: "):
        load_objects([tmp_path / "none"], flag="--policies")
