"""Has the kernel log what an unprivileged user wrote: two ways to make it look like a netfilter line.

Each is done by a process of its own, as the user nobody. The kernel log is one for the whole machine: give every line a
token of your own.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

__all__ = ["by_a_crash", "by_an_overlay"]

_NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
#: Debian's, which holds the interpreter itself: what crashes in it crashes in this file, not in a library.
_PYTHON = Path("/usr/bin/python3")

#: prctl(2): PR_SET_DUMPABLE, so that no core is written, and PR_SET_NAME. What is counted up then is no object.
_CRASH = """
import ctypes, sys
libc = ctypes.CDLL(None)
libc.prctl(4, 0, 0, 0, 0)
libc.prctl(15, sys.argv[1].encode(), 0, 0, 0)
ctypes.pythonapi.Py_IncRef(ctypes.c_void_p(8))
"""

#: mount(2) with an upper directory that does not exist.
_OVERLAY = """
import ctypes, sys
libc = ctypes.CDLL(None)
assert libc.mount(b"none", b"/mnt", b"overlay", 0, b"lowerdir=/usr,upperdir=" + sys.argv[1].encode() + b",workdir=x")
"""


def by_a_crash(process: str, executable: str) -> None:
    """``PROCESS[PID]: segfault at 8 ip … error 6 in EXECUTABLE[…]``; ``process`` has 15 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="forging-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        program = directory / executable
        shutil.copy(_PYTHON.resolve(), program)
        done = subprocess.run(
            [*_NOBODY, str(program), "-I", "-c", _CRASH, process],
            env={"PYTHONHOME": str(_PYTHON.parents[1])},
            capture_output=True,
            check=False,
            timeout=20,
        )
        # setpriv became the program, which was killed.
        assert done.returncode == -11, done


def by_an_overlay(directory: str) -> None:
    """``overlayfs: failed to resolve 'DIRECTORY': -2``; ``directory`` has no commas."""
    unshared = ("unshare", "--user", "--map-root-user", "--mount")
    subprocess.run([*_NOBODY, *unshared, str(_PYTHON), "-c", _OVERLAY, directory], check=True, timeout=20)
