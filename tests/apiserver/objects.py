"""Pods and Events for tests."""

POD_URL = "/api/v1/namespaces/{namespace}/pods"
EVENTS = "/api/v1/namespaces/team-a/events"


def pod(name, *, namespace="team-a", node="node-1", ip="10.0.0.1", phase="Running", **metadata):
    return {
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "x"}]},
        "status": {"phase": phase, "podIP": ip, "podIPs": [{"ip": ip}]},
    }


def event(name, *, namespace="team-a", **fields):
    involved = {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": "web", "uid": "u1"}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": involved,
        "reason": "PacketDrop",
        "message": "m",
        "type": "Warning",
        **fields,
    }
