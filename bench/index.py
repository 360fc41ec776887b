"""``python -m bench.index``: what the pod index costs with many pods, beside the Python client's own typed list.

Against the test API server with made-up pods or, where ``KIPTAIL_BENCH_KUBECONFIG`` names a kubeconfig, any cluster.
Each way of reading the pods is a process of its own, which imports what kiptail imports; its memory is what the kernel
says at its highest.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.programs import BenchError
from bench.report import machine, versions
from tests.support.pods import NoNames

_ROOT = Path(__file__).parent.parent
_BUILD = _ROOT / "build" / "bench"
_REALISTIC = _ROOT / "tests" / "wire" / "48-pod-realistic.json"

#: Pods of a node.
_PER_NODE = 50
_WAYS = (
    "cluster, streamed",
    "cluster, in pages",
    "cluster, without labels",  # --explain off
    "node",
    "typed list of the Python client",
)


def main() -> int:
    """Run the benchmark, or one way of it; returns the exit code."""
    arguments = _arguments()
    if arguments.way is not None:
        sys.stdout.write(json.dumps(_measure(arguments.way, arguments.kubeconfig, arguments.node)) + "\n")
        return 0
    host, software = machine(), versions()
    try:
        with _cluster(arguments.pods) as kubeconfigs:
            rows = [(way, _run(way, kubeconfigs[way], arguments.node)) for way in _WAYS]
    except BenchError as error:
        sys.stderr.write(f"bench: error: {error}\n")
        return 1
    document = {"machine": host, "versions": software, "rows": dict(rows)}
    (_BUILD / "index.json").write_text(json.dumps(document, indent=1) + "\n")
    sys.stdout.write(
        f"\n{host['cpu']}, {host['cores']} cores, Linux {host['kernel']}, load {host['load_before']} before\n"
        f"{', '.join(f'{name} {version}' for name, version in software.items())}\n\n"
        "| how                             |   pods | until ready, s | CPU, s | peak RSS, MB | without mapped files |\n"
        "| ------------------------------- | -----: | -------------: | -----: | -----------: | -------------------: |\n"
    )
    for way, row in rows:
        sys.stdout.write(
            f"| {way:<31} | {row['pods']:>6,} | {row['seconds']:>14.2f} | {row['cpu']:>6.2f}"
            f" | {row['peak_mb']:>12,.0f} | {row['peak_anonymous_mb']:>20,.0f} |\n"
        )
    return 0


@contextlib.contextmanager
def _cluster(pods: int) -> Iterator[dict[str, Path]]:
    """A kubeconfig for each way: of the cluster that is given, or of test servers with ``pods`` pods."""
    given = os.environ.get("KIPTAIL_BENCH_KUBECONFIG")
    if given:
        yield dict.fromkeys(_WAYS, Path(given))
        return
    objects = _made_pods(pods)
    with contextlib.ExitStack() as stack:
        streams, pages = _BUILD / "kubeconfig-streams", _BUILD / "kubeconfig-pages"
        for kubeconfig, watch_list in ((streams, "serve"), (pages, "reject")):
            command = [sys.executable, "-m", "tests.apiserver", "--pods", str(objects), "--watch-list", watch_list]
            server = subprocess.Popen(  # noqa: S603 - our own module
                [*command, "--kubeconfig", str(kubeconfig)], cwd=_ROOT, stdout=subprocess.PIPE
            )
            stack.callback(server.wait)
            stack.callback(server.terminate)
            if server.stdout is not None:
                stack.callback(server.stdout.close)
            if server.stdout is None or not server.stdout.readline():
                raise BenchError("the test API server does not start")
        yield {way: pages if "pages" in way else streams for way in _WAYS}


def _made_pods(number: int) -> Path:
    """A file with so many pods, one a line, 50 a node, dual-stack, ten of them a workload; made once."""
    path = _BUILD / f"pods-{number}-labels.jsonl"
    if path.exists():
        return path
    _BUILD.mkdir(parents=True, exist_ok=True)
    (pattern,) = json.loads(_REALISTIC.read_text())["response"]["body"]["items"]
    part = path.with_suffix(".part")
    with part.open("w") as file:
        for n in range(number):
            node, place = divmod(n, _PER_NODE)
            addresses = [f"10.{64 + node // 250}.{node % 250}.{place + 2}", f"fd00:{node:x}::{place + 2:x}"]
            host = f"192.168.{node // 250}.{node % 250 + 1}"
            pattern["metadata"] |= {
                "name": f"web-{n % 97}-5d4f8c7b9d-{n:05x}",
                "namespace": f"team-{n % 200}",
                "uid": str(uuid.UUID(int=n)),
                "labels": _labels(n),
            }
            pattern["spec"]["nodeName"] = f"worker-{node}"
            pattern["status"] |= {
                "podIP": addresses[0],
                "podIPs": [{"ip": address} for address in addresses],
                "hostIP": host,
                "hostIPs": [{"ip": host}],
            }
            file.write(json.dumps(pattern, separators=(",", ":")) + "\n")
    return part.rename(path)


def _labels(n: int) -> dict[str, str]:
    """Those of a Deployment's pod, which ten share, or, one in twenty, of a StatefulSet's, which none does."""
    workload = n % 2_000
    labels = {"app.kubernetes.io/name": f"app-{workload % 400}", "app.kubernetes.io/instance": f"app-{workload}"}
    labels |= {"app.kubernetes.io/managed-by": "Helm", "team": f"team-{n % 200}"}
    if n % 20:
        return labels | {"pod-template-hash": f"{workload:010x}"}
    return labels | {"statefulset.kubernetes.io/pod-name": f"app-{n}", "controller-revision-hash": f"{workload:010x}"}


def _run(way: str, kubeconfig: Path, node: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.index", "--way", way, "--kubeconfig", str(kubeconfig), "--node", node]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own module
    if done.returncode:
        raise BenchError(f"{way}: {done.stderr.strip()}")
    row: dict[str, Any] = json.loads(done.stdout)
    return row


def _measure(way: str, kubeconfig: Path, node: str) -> dict[str, Any]:
    """In a process of its own."""
    import kiptail.daemon.run  # noqa: F401, PLC0415 - what a running kiptail has in memory

    begin, cpu = time.monotonic(), time.process_time()
    read: Callable[[], int] = (
        (lambda: _typed(kubeconfig)) if "typed" in way else (lambda: _index(way, kubeconfig, node))
    )
    pods = read()
    return {
        "pods": pods,
        "seconds": time.monotonic() - begin,
        "cpu": time.process_time() - cpu,
        "peak_mb": _status("VmHWM"),
        # Mapped files, that is, libraries, are at their highest now: none is let go of.
        "peak_anonymous_mb": _status("VmHWM") - _status("RssFile"),
    }


def _index(way: str, kubeconfig: Path, node: str) -> int:
    from kiptail.clock.own import OwnClock  # noqa: PLC0415 - its time counts
    from kiptail.kube.api import KubeApi  # noqa: PLC0415
    from kiptail.pods.live import LiveIndex, NodeMode  # noqa: PLC0415
    from kiptail.pods.ranges import PodRanges  # noqa: PLC0415
    from kiptail.pods.reflector import Hooks  # noqa: PLC0415

    api = KubeApi.from_kubeconfig(kubeconfig)
    index = LiveIndex(
        api,
        node=node,
        label=None,
        ranges=PodRanges(),
        names=NoNames(),
        hooks=Hooks(lambda addresses: None, lambda: None, lambda: None, lambda reason: None),
        clock=OwnClock(),
        node_mode=NodeMode(lambda addresses: None, str) if way == "node" else None,
        detailed="without labels" not in way,
    )
    index.start()
    while not index.ready():
        time.sleep(0.005)
    index.stop()
    api.close()
    return index.stats().pods


def _typed(kubeconfig: Path) -> int:
    from kubernetes import client, config  # noqa: PLC0415 - its time counts

    config.load_kube_config(str(kubeconfig))
    return len(client.CoreV1Api().list_pod_for_all_namespaces().items)


def _status(field: str) -> float:
    """A value of /proc/self/status, in MB (10⁶ bytes)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024 / 1e6
    raise BenchError(f"the kernel tells no {field}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.index", description=__doc__)
    parser.add_argument("--pods", type=int, default=20_000, metavar="N", help="of the test API server [%(default)s]")
    parser.add_argument("--node", default="worker-7", metavar="NAME", help="whose pods node mode reads [%(default)s]")
    parser.add_argument("--way", choices=_WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--kubeconfig", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
