"""A command in this tree with Debian 13's Python and libraries: `python -m tests.system.inside COMMAND [ARGUMENT…]`.

That is how the tests meet them on a machine that has others, such as Debian 12. Debian 13 is the root directory that
the booted one starts from; the kernel, devices and network are this machine's, and only this tree is written to.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.system.root import ROOT, Release, debian_root

__all__ = ["main"]

#: In a mount namespace of its own, which vanishes with the last process in it. Python finds the tree as if installed.
_ENTER = """
set -eu
root=$1 tree=$2
shift 2
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o "lowerdir=$root,upperdir=/mnt/upper,workdir=/mnt/work" /mnt/root
for part in dev proc sys tmp; do
  mount --rbind "/$part" "/mnt/root/$part"
done
mkdir -p "/mnt/root$tree"
mount --bind "$tree" "/mnt/root$tree"
echo "$tree" >/mnt/root/usr/lib/python3/dist-packages/kiptail.pth
exec chroot /mnt/root sh -c 'cd "$0"; exec "$@"' "$tree" "$@"
"""
#: What the tests may be told; the rest of the environment is about this machine's programs.
_KEPT = ("CI", "COLUMNS", "KIPTAIL_TEST_", "TERM")
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"}


def main(command: list[str]) -> int:
    """Becomes the command; returns only when that is not possible."""
    if os.geteuid() != 0:
        sys.stderr.write("make: Debian 13's Python and libraries need root: debootstrap and chroot\n")
        return 1
    environment = {name: value for name, value in os.environ.items() if name.startswith(_KEPT)} | _ENVIRONMENT
    try:
        with debian_root(Release.DEBIAN_13) as root:
            enter = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _ENTER, "sh", str(root), str(ROOT)]
            os.execvpe("unshare", [*enter, *command], environment)  # noqa: S606 - becomes what it was called for
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"make: Debian 13 cannot be had: {error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
