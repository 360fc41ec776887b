"""Whatever objects are, there is an answer, bounded and safe for a terminal."""

from __future__ import annotations

import copy
import ipaddress
import json
import random
from typing import Any

import pytest

from kiptail.admin.explain import printed
from kiptail.policies.cluster import Objects
from kiptail.policies.ends import Connection, End, Outside, Pod
from kiptail.policies.explanation import explain
from tests.support.answers import ODD
from tests.support.fuzzing import cases, source
from tests.support.policies import OUTSIDE, random_cluster


@pytest.mark.fuzz
def test_damaged_objects_are_used_or_counted() -> None:
    chance, seed = source("hostile objects")
    for number in range(cases(150)):
        cluster = random_cluster(chance.randrange(1 << 60))
        given = [*cluster.namespaces, *cluster.pods, *cluster.policies]
        for obj in given:
            if chance.random() < 0.7:
                _damage(chance, obj)
        objects = Objects()
        for obj in given:
            objects.take(obj)
        assert all(line.isprintable() and len(line) < 400 for line in objects.refusals()), seed
        ends: list[End] = [*objects.pods.values(), *(_outside(text) for text in OUTSIDE)]
        for _ in range(4):
            protocol, port = chance.choice((("TCP", 80), ("UDP", 53), (None, None)))
            answer = explain(Connection(chance.choice(ends), chance.choice(ends), protocol, port), objects)
            for form in ("text", "yaml"):
                assert all(line.isprintable() for line in printed(answer, form).split("\n")), (seed, number)
            assert all(len(line) < 600 for comments in answer.suggestion.comments for line in comments), (seed, number)
            assert json.loads(printed(answer, "json"))["allowed"] is answer.allowed


def test_pods_with_all_that_names_can_hold() -> None:
    """Labels that no rule can name are not used in one."""
    labels = {"\x1b[31m": "x", "app": "\u202e", "ok": "v", "a" * 400: "b", "c/d/e": "f"}
    obj = {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "a", "name": "p", "labels": labels}}
    objects = Objects()
    objects.take(obj)
    objects.take({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                  "metadata": {"namespace": "a", "name": "deny"}, "spec": {}})  # fmt: skip
    pod = objects.pods["a/p"]
    assert isinstance(pod, Pod)
    (manifest,) = explain(Connection(_outside("192.0.2.7"), pod, "TCP", 80), objects).suggestion.manifests
    assert manifest["spec"]["podSelector"] == {"matchLabels": {"ok": "v"}}


def _outside(text: str) -> Outside:
    return Outside(ipaddress.ip_address(text))


def _damage(chance: random.Random, obj: Any) -> None:
    places = []
    todo = [obj]
    while todo:
        node = todo.pop()
        for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            todo.append(node[key])
    for node, key in chance.sample(places, chance.choice((1, 1, 2))):
        if isinstance(node, dict) and chance.random() < 0.3:
            node[chance.choice([text for text in ODD if isinstance(text, str)])] = chance.choice(ODD)
        node[key] = copy.deepcopy(chance.choice(ODD))
