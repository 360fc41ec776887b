"""The configuration file as kiptail writes it: with a checksum in it, so that what people changed is not overwritten.

The example that packages ship and what ``kiptail setup`` writes both have one. A file whose checksum still fits holds
nobody's work but kiptail's own.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from kiptail import inputfile
from kiptail.credentials.files import why, write_whole
from kiptail.errors import KiptailError
from kiptail.text import one_line

__all__ = ["is_unchanged", "sealed", "write"]

_SEAL = re.compile(r"^# Checksum of this file as kiptail wrote it, without this line: [0-9a-f]{32}\n", re.MULTILINE)
#: As a configuration file is read.
_MOST_BYTES = 1 << 20
#: The service, which is another user, reads it.
_MODE = 0o644


def sealed(text: str) -> str:
    """``text``, which ends with a line's end, with a last comment in its first block: its own checksum."""
    end_of_block = text.find("\n\n") + 1 or len(text)
    checksum = hashlib.sha256(text.encode()).hexdigest()[:32]
    seal = f"# Checksum of this file as kiptail wrote it, without this line: {checksum}\n"
    return text[:end_of_block] + seal + text[end_of_block:]


def is_unchanged(text: str) -> bool:
    """Whether ``text`` is what :func:`sealed` made, to the letter."""
    return _SEAL.search(text) is not None and sealed(_SEAL.sub("", text, count=1)) == text


def write(path: Path, text: str, *, force: bool) -> None:
    """Make ``path`` hold ``text`` (0644), all of it or not at all. Raises KiptailError.

    A file that somebody changed is replaced only with ``force``. A link is followed, so that it stays one.
    """
    shown = one_line(str(path))
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise KiptailError(f"cannot write {shown}: it is a directory")
    if target.exists() and not target.is_file():
        raise KiptailError(f"cannot write {shown}: it is no regular file")
    if not force and not _may_replace(target, shown):
        raise KiptailError(
            f"{shown} was changed by hand and is left as it is: `kiptail setup` prints what is proposed,"
            " and `kiptail setup --write --force` replaces the file"
        )
    try:
        target.parent.mkdir(mode=0o755, exist_ok=True)
        write_whole(target, text.encode(), mode=_MODE)
    except OSError as error:
        raise KiptailError(f"cannot write {shown}: {why(error)}") from error


def _may_replace(target: Path, shown: str) -> bool:
    try:
        content = inputfile.read(target, _MOST_BYTES)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise KiptailError(f"cannot read {shown}, which is there: {why(error)}") from error
    return is_unchanged(content.decode(errors="replace"))
