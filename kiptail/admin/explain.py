"""``kiptail explain``: whether NetworkPolicies admit a connection, why not, and what would let it through."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from kiptail.admin.object_requests import request_objects
from kiptail.admin.question import Question, connection_of
from kiptail.credentials import kubectl_yaml
from kiptail.kube.api import KubeApi
from kiptail.policies.cluster import Objects, other_policies
from kiptail.policies.explanation import Explanation, explain
from kiptail.policies.object_files import load_objects
from kiptail.policies.words import as_json, as_lines
from kiptail.text import one_line

__all__ = ["explain_by_cluster", "explain_by_files", "printed"]


def explain_by_files(question: Question, paths: Sequence[Path]) -> Explanation:
    """The answer by what files say. Raises SettingsError."""
    objects = load_objects(paths)
    notes = [
        f"namespace {namespace} is not in the files: of its labels only its name is known"
        for namespace in dict.fromkeys(question.namespaces())
        if namespace not in objects.namespaces
    ]
    if not objects.policies:
        notes.append("no NetworkPolicy is in the files")
    if not objects.other_groups:
        notes.append("files do not tell whether the cluster has policies of other kinds (Calico, Cilium, …) as well")
    return _explained(question, objects, ", ".join(one_line(str(path)) for path in paths), notes)


def explain_by_cluster(
    question: Question, kubeconfigs: Iterable[Path], *, context: str | None, server: str | None
) -> Explanation:
    """The answer by what the cluster says to whom the kubeconfigs name. Raises ClusterError, SettingsError."""
    with contextlib.closing(KubeApi.from_kubeconfig(*kubeconfigs, context=context, server=server)) as api:
        objects, notes = request_objects(api, question.namespaces(), question.addresses())
        where = f"the cluster at {api.server}"
    return _explained(question, objects, where, notes)


def _explained(question: Question, objects: Objects, where: str, notes: Iterable[str]) -> Explanation:
    connection, of_ends = connection_of(question, objects, where)
    answer = explain(connection, objects)
    if others := other_policies(objects.other_groups):
        of_ends.append(f"policies of other kinds are not looked at, and may count as well: {', '.join(others)}")
    return replace(answer, notes=[*answer.notes, *of_ends, *objects.refusals(), *notes])


def printed(answer: Explanation, output: str) -> str:
    """The answer as ``text``, ``json`` or ``yaml``, which is the suggestion alone."""
    if output == "json":
        return json.dumps(as_json(answer), indent=1) + "\n"
    manifests = "---\n".join(_manifests(answer))
    if output == "yaml":
        return manifests
    text = "\n".join(as_lines(answer)) + "\n"
    return f"{text}\nThis would let it through (kubectl apply -f):\n\n{manifests}" if manifests else text


def _manifests(answer: Explanation) -> Iterator[str]:
    for manifest, comments in zip(answer.suggestion.manifests, answer.suggestion.comments, strict=True):
        yield "".join(f"# {comment}\n" for comment in comments) + kubectl_yaml.written(manifest)
