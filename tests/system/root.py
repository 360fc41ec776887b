"""A Debian with everything but kiptail: each release made by debootstrap once, and kept outside of the tree.

They are in $XDG_CACHE_HOME/kiptail-system-test, or in /var/cache/kiptail-system-test, and nobody writes to one once it
is made. Another list of packages makes another one, and those that nobody uses any more go.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

__all__ = ["Release", "debian_root", "dependencies"]

ROOT = Path(__file__).parents[2]


class Release(StrEnum):
    """A Debian that kiptail is tried on, by the name of its suite on the mirrors."""

    DEBIAN_12 = "bookworm"
    DEBIAN_13 = "trixie"


#: What boots, and fetches packages.
BASE = ("systemd", "systemd-sysv", "dbus", "ca-certificates")
#: What the tests look at the package with.
TOOLS = ("man-db", "bash-completion", "fish", "zsh")
#: What the tests themselves need, where they run inside: `tests.system.inside`.
TESTING = (
    *("python3-hypothesis", "python3-pytest", "python3-pytest-timeout"),
    *("iproute2", "kubernetes-client", "openssl", "procps", "systemd-journal-remote"),
)
#: Debian 12's libraries are tested without a chroot: .venv/debian.
MORE: dict[Release, tuple[str, ...]] = {Release.DEBIAN_12: (), Release.DEBIAN_13: TESTING}
#: Making one takes a minute or two; a slow mirror may take longer.
MAKING_S = 1_200


def dependencies() -> list[str]:
    """The packages that ours depends on, as its control file has them."""
    control = (ROOT / "packaging/debian/control").read_text()
    field = re.search(r"^Depends:(.*(?:\n .*)*)", control, re.MULTILINE)
    assert field is not None
    names = [re.sub(r"\(.*\)", "", item).strip() for item in field[1].split(",")]
    return sorted(name for name in names if not name.startswith("$"))


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "/var/cache") / "kiptail-system-test"


def _mirror() -> str:
    """The mirror that this machine's apt takes Debian from."""
    command = ["apt-get", "indextargets", "--format", "$(LABEL)|$(COMPONENT)|$(REPO_URI)", "Created-By: Packages"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    for label, component, uri in (line.split("|") for line in done.stdout.splitlines()):
        if (label, component) == ("Debian", "main"):
            return uri
    raise RuntimeError("this machine's apt has no Debian mirror to make a Debian from: see sources.list(5)")


def _environment() -> dict[str, str]:
    """This one, and apt's proxy, which debootstrap does not ask for."""
    command = ["apt-config", "shell", "proxy", "Acquire::http::Proxy"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    proxy = re.fullmatch(r"proxy='(.+)'", done.stdout.strip())
    kept = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    return ({"http_proxy": proxy[1]} if proxy else {}) | os.environ | kept


def _make(release: Release, packages: list[str], target: Path) -> None:
    log = target.with_name(f"{target.name}.log")
    # What a run that was ended has left is of no use.
    new = target.with_name(f"{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    base = ["debootstrap", "--variant=minbase", f"--include={','.join(BASE)}", release, str(new), _mirror()]
    # What debootstrap mounts there is gone when it is, however it ends.
    alone = ["unshare", "--mount", "--propagation", "private"]
    # debootstrap knows nothing of packages that another one provides.
    apt = ["chroot", str(new), "apt-get"]
    rest = [*apt, "install", "--yes", "--no-install-recommends", *packages]
    with log.open("wb") as output:
        for command in (base, [*apt, "update"], rest):
            done = subprocess.run(
                [*alone, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_environment(),
                timeout=MAKING_S,
                check=False,
            )
            if done.returncode:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
                raise RuntimeError(f"{command[0]} could not make a Debian {release} (all it said: {log}):\n{tail}")
    for archive in (new / "var/cache/apt/archives").glob("*.deb"):
        archive.unlink()
    new.rename(target)


def _name(release: Release) -> str:
    """Of its directory: another list of packages has another name."""
    return f"{release}-{hashlib.sha256(' '.join([*BASE, *_packages(release)]).encode()).hexdigest()[:12]}"


def _packages(release: Release) -> list[str]:
    return [*TOOLS, *dependencies(), *MORE[release]]


def _remove_unused(cache: Path) -> None:
    wanted = {_name(release) for release in Release}
    for lock in cache.glob("*.lock"):
        if lock.stem in wanted:
            continue
        with lock.open() as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            for left in (lock.with_suffix(""), lock.with_suffix(".new")):
                shutil.rmtree(left, ignore_errors=True)
            lock.with_suffix(".log").unlink(missing_ok=True)
            lock.unlink()


@contextmanager
def debian_root(release: Release) -> Iterator[Path]:
    """Its directory, not to be written to; RuntimeError if it cannot be made.

    A process that this one becomes (`exec`) goes on holding it.
    """
    name = _name(release)
    cache = _cache()
    cache.mkdir(parents=True, exist_ok=True)
    target = cache / name
    with (cache / f"{name}.lock").open("w") as lock:
        os.set_inheritable(lock.fileno(), True)
        # Whoever uses it keeps it from being removed; of two runs that find none, one makes it.
        fcntl.flock(lock, fcntl.LOCK_SH)
        if not target.exists():
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.exists():
                _make(release, _packages(release), target)
                _remove_unused(cache)
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield target
