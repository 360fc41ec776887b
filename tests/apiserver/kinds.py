"""The resources that the server knows: names, selectable fields, defaults of a create, validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.apiserver.events import blank_event, new_event, validate_event
from tests.apiserver.network_policies import new_network_policy, validate_network_policy

__all__ = [
    "BY_PLURAL",
    "EVENTS",
    "KINDS",
    "NAMESPACES",
    "NETWORKPOLICIES",
    "NODES",
    "PODS",
    "SERVICEACCOUNTS",
    "SERVICES",
    "Kind",
    "now",
]

Json = dict[str, Any]


def now() -> str:
    """The time as metadata has it: UTC, whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _text(value: object) -> str:
    """A field as a selector sees it: absent is empty, a boolean is `true` or `false`."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _path(*keys: str) -> Callable[[Mapping[str, Any]], str]:
    def read(obj: Mapping[str, Any]) -> str:
        value: Any = obj
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return _text(value)

    return read


def _paths(*dotted: str) -> dict[str, Callable[[Mapping[str, Any]], str]]:
    return {label: _path(*label.split(".")) for label in dotted}


def _pod_ip(obj: Mapping[str, Any]) -> str:
    """`status.podIP` is `podIPs[0]`: a second family is not seen."""
    status = obj.get("status") or {}
    addresses = status.get("podIPs") or []
    return _text(addresses[0].get("ip") if addresses else status.get("podIP"))


def _event_source(obj: Mapping[str, Any]) -> str:
    return _text((obj.get("source") or {}).get("component") or obj.get("reportingComponent"))


def _unchanged(obj: Json) -> Json:
    return obj


def _valid(obj: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    return []


@dataclass(frozen=True)
class Kind:
    """One resource.

    `selectable` reads the value of each field label that a `fieldSelector` may name. `cached` kinds are
    served from the watch cache at `resourceVersion=0`, which ignores `limit`. `blank` is what an empty
    object of the kind looks like on the wire (a bookmark). `fill` makes the stored object of one that was
    posted, `fill_status` the stored status of one that was written.
    """

    plural: str
    kind: str
    singular: str
    #: "": the core group.
    group: str = ""
    short: tuple[str, ...] = ()
    namespaced: bool = True
    cached: bool = True
    subresources: tuple[str, ...] = ()
    selectable: Mapping[str, Callable[[Mapping[str, Any]], str]] = field(default_factory=dict)
    blank: Mapping[str, Any] = field(default_factory=dict)
    fill: Callable[[Json], Json] = _unchanged
    fill_status: Callable[[Json], Json] = _unchanged
    validate: Callable[[Mapping[str, Any]], list[tuple[str, str, str]]] = _valid

    @property
    def group_version(self) -> str:
        """As ``apiVersion`` has it: `v1`, `networking.k8s.io/v1`."""
        return f"{self.group}/v1" if self.group else "v1"

    @property
    def resource(self) -> str:
        """As messages call it: `pods`, `networkpolicies.networking.k8s.io`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def labels(self) -> tuple[str, ...]:
        """The field labels in the order in which an object's values are kept."""
        return tuple(self.selectable)


def _new_container(container: Mapping[str, Any]) -> Json:
    image = str(container.get("image", ""))
    tag = image.rsplit("/", 1)[-1].partition(":")[2]
    defaults = {
        "resources": {},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "Always" if tag in ("", "latest") else "IfNotPresent",
    }
    return {**defaults, **container}


def _new_pod(obj: Json) -> Json:
    """The defaults of the API and of the admission plug-ins DefaultTolerationSeconds and Priority."""
    posted = obj.get("spec") or {}
    spec: Json = {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        "schedulerName": "default-scheduler",
        "tolerations": [
            {
                "key": f"node.kubernetes.io/{condition}",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": 300,
            }
            for condition in ("not-ready", "unreachable")
        ],
        "priority": 0,
        "enableServiceLinks": True,
        "preemptionPolicy": "PreemptLowerPriority",
        **posted,
    }
    spec["containers"] = [_new_container(container) for container in posted.get("containers") or []]
    metadata = {"generation": 1, **obj["metadata"]}
    # A create cannot set the status: that is the kubelet's, through the subresource.
    return {
        **obj,
        "metadata": metadata,
        "spec": spec,
        "status": {"phase": "Pending", "qosClass": "BestEffort"},
    }


def _pod_status(status: Json) -> Json:
    """Go writes a condition's times even when they are null."""
    if not status.get("conditions"):
        return status
    times = {"lastProbeTime": None, "lastTransitionTime": None}
    return {**status, "conditions": [{**times, **condition} for condition in status["conditions"]]}


def _validate_pod(obj: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    if not (obj.get("spec") or {}).get("containers"):
        return [("FieldValueRequired", "Required value", "spec.containers")]
    return []


def _new_namespace(obj: Json) -> Json:
    labels = {"kubernetes.io/metadata.name": obj["metadata"]["name"], **(obj["metadata"].get("labels") or {})}
    metadata = {**obj["metadata"], "labels": labels}
    return {
        **obj,
        "metadata": metadata,
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


_EMPTY_NODE_STATUS = {
    "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
    "nodeInfo": dict.fromkeys(
        (
            "machineID",
            "systemUUID",
            "bootID",
            "kernelVersion",
            "osImage",
            "containerRuntimeVersion",
            "kubeletVersion",
            "kubeProxyVersion",
            "operatingSystem",
            "architecture",
        ),
        "",
    ),
}


def _new_node(obj: Json) -> Json:
    """A node starts with the taint of one whose kubelet has not reported yet."""
    taints = [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]
    return {**obj, "spec": {"taints": taints, **(obj.get("spec") or {})}, "status": _EMPTY_NODE_STATUS}


def _new_service(obj: Json) -> Json:
    posted = obj.get("spec") or {}
    spec = {
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "internalTrafficPolicy": "Cluster",
        **posted,
    }
    if posted.get("clusterIP"):
        spec.setdefault("clusterIPs", [posted["clusterIP"]])
    return {**obj, "spec": spec, "status": {"loadBalancer": {}}}


PODS = Kind(
    plural="pods",
    kind="Pod",
    singular="pod",
    short=("po",),
    subresources=("status",),
    selectable={
        **_paths(
            "metadata.name",
            "metadata.namespace",
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "status.phase",
            "status.nominatedNodeName",
        ),
        "spec.hostNetwork": lambda obj: _text(bool((obj.get("spec") or {}).get("hostNetwork"))),
        "status.podIP": _pod_ip,
        # The API accepts this label, but no object has a value for it: it never matches.
        "status.podIPs": lambda obj: "",
    },
    blank={"spec": {"containers": None}, "status": {}},
    fill=_new_pod,
    fill_status=_pod_status,
    validate=_validate_pod,
)
EVENTS = Kind(
    plural="events",
    kind="Event",
    singular="event",
    short=("ev",),
    cached=False,
    selectable={
        **_paths(
            "metadata.name",
            "metadata.namespace",
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "type",
        ),
        "source": _event_source,
    },
    blank=blank_event(),
    fill=new_event,
    validate=validate_event,
)
NAMESPACES = Kind(
    plural="namespaces",
    kind="Namespace",
    singular="namespace",
    short=("ns",),
    namespaced=False,
    subresources=("status",),
    selectable=_paths("metadata.name", "status.phase"),
    blank={"spec": {}, "status": {}},
    fill=_new_namespace,
)
NODES = Kind(
    plural="nodes",
    kind="Node",
    singular="node",
    short=("no",),
    namespaced=False,
    subresources=("status",),
    selectable={
        **_paths("metadata.name"),
        "spec.unschedulable": lambda obj: _text(bool((obj.get("spec") or {}).get("unschedulable"))),
    },
    blank={"spec": {}, "status": _EMPTY_NODE_STATUS},
    fill=_new_node,
)
SERVICES = Kind(
    plural="services",
    kind="Service",
    singular="service",
    short=("svc",),
    subresources=("status",),
    selectable=_paths("metadata.name", "metadata.namespace", "spec.clusterIP", "spec.type"),
    blank={"spec": {}, "status": {"loadBalancer": {}}},
    fill=_new_service,
)
SERVICEACCOUNTS = Kind(
    plural="serviceaccounts",
    kind="ServiceAccount",
    singular="serviceaccount",
    short=("sa",),
    selectable=_paths("metadata.name", "metadata.namespace"),
)
NETWORKPOLICIES = Kind(
    plural="networkpolicies",
    kind="NetworkPolicy",
    singular="networkpolicy",
    group="networking.k8s.io",
    short=("netpol",),
    selectable=_paths("metadata.name", "metadata.namespace"),
    blank={"spec": {"podSelector": {}}},
    fill=new_network_policy,
    validate=validate_network_policy,
)
KINDS = (PODS, EVENTS, NAMESPACES, NODES, SERVICES, SERVICEACCOUNTS, NETWORKPOLICIES)
BY_PLURAL = {kind.plural: kind for kind in KINDS}
