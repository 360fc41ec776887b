"""How much the fuzzers try: little in `make test`, much more by `make fuzz`, from another seed each time.

A fuzzer is a test with the mark ``fuzz``, or one of hypothesis'. What one has found is kept as an example beside it,
and always tried.
"""

from __future__ import annotations

import os
import random

__all__ = ["FACTOR", "cases", "source"]

#: How many times as much as usual is tried; `make test` tries less with its second and third set of libraries.
FACTOR = float(os.environ.get("KIPTAIL_TEST_FUZZ", "1"))
#: Never fewer cases than that.
_LEAST = 5


def cases(usual: int) -> int:
    """How many cases are tried, where it is ``usual`` many in `make test` with Debian 12's libraries."""
    return max(min(usual, _LEAST), round(usual * FACTOR))


def source(name: str) -> tuple[random.Random, str]:
    """Where a fuzzer's choices come from, and what names them in a failure: the same each time in `make test`."""
    seed = os.environ.get("KIPTAIL_TEST_SEED") or ("0" if FACTOR <= 1 else random.SystemRandom().randbytes(4).hex())
    return random.Random(f"{name} {seed}"), f"KIPTAIL_TEST_SEED={seed}"
