"""Whether the contracts in setup.cfg refuse wrong imports: each is put in by hand, into a copy, and has to be found.

python -m tools.wrong_imports
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["main"]

_ROOT = Path(__file__).parent.parent
#: A module, what it must not import, and the contract that says so.
_WRONG = (
    ("kiptail/clock/dates.py", "import kiptail.kube.api", "Arrows point down"),
    ("kiptail/journal/reader.py", "import kiptail.flows.flow", "Arrows point down"),
    ("kiptail/pods/pod.py", "import kiptail.events.event", "Arrows point down"),
    ("kiptail/quiet/filter.py", "import kiptail.events.endpoint", "Arrows point down"),
    ("kiptail/flows/left_out.py", "import kiptail.quiet.filters", "Arrows point down"),
    ("kiptail/policies/evaluate.py", "import kiptail.names.dns", "Arrows point down"),
    ("kiptail/flows/flow.py", "import urllib3", "Each room imports only the packages that its row names"),
    ("kiptail/flows/trail.py", "import kiptail.flows.flow", "No module imports itself by others"),
)


def main() -> int:
    """Try them all; returns the exit code."""
    missed = 0
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory)
        for part in ("kiptail", "tools", "setup.cfg"):
            (shutil.copytree if (_ROOT / part).is_dir() else shutil.copy)(_ROOT / part, copy / part)
        for module, line, contract in _WRONG:
            path = copy / module
            right = path.read_text()
            path.write_text(f"{right}\n{line}\n")
            linter = Path(sys.executable).with_name("lint-imports")
            done = subprocess.run(  # noqa: S603 - fixed
                [linter, "--no-cache"],
                cwd=copy,
                env={"PYTHONPATH": directory},
                capture_output=True,
                text=True,
                check=False,
            )
            path.write_text(right)
            if done.returncode == 0 or f"{contract} BROKEN" not in done.stdout:
                missed += 1
                print(f'{module}: `{line}` is not refused by "{contract}":\n{done.stdout}{done.stderr}')  # noqa: T201
    print(f"wrong imports: {len(_WRONG) - missed} of {len(_WRONG)} refused")  # noqa: T201
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
