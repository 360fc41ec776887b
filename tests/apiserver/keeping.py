"""A cluster that outlives its API server: every change in a file, as etcd keeps it behind a real one."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.apiserver.kinds import Kind
from tests.apiserver.store import Change, Store

__all__ = ["keep"]


def keep(store: Store, path: Path) -> bool:
    """Make the changes that `path` holds again, and add each further one to it; False when it held none.

    A change is in the file, by one write, before the client that asked for it is answered: a SIGKILL loses
    answers, never changes that were answered.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    lines = path.read_text().splitlines()
    for line in lines:
        store.replay(*json.loads(line))

    def write(kind: Kind, change: Change) -> None:
        obj = json.loads(change.new.body) if change.new is not None else None
        os.write(descriptor, json.dumps([kind.plural, change.version, change.key, obj]).encode() + b"\n")

    store.keep = write
    return bool(lines)
