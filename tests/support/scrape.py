"""What a running kiptail tells on its metrics port."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request

__all__ = ["free_port", "get", "names"]


def free_port() -> int:
    """A port that was free just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def get(port: int, path: str = "/metrics", *, timeout: float = 5) -> tuple[int, str]:
    """Status and text."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def names(text: str) -> dict[str, set[str]]:
    """The metrics of an exposition, each with its labels."""
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            found[line.split()[2]] = set()
    for line in text.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        name, _, rest = line.partition("{")
        name = name.split(" ")[0]
        family = next(family for family in sorted(found, key=len, reverse=True) if name.startswith(family))
        if "{" in line:
            found[family] |= {part.split("=")[0] for part in rest.rpartition("}")[0].split('",') if "=" in part}
    return found
