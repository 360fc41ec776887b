"""Reads the firewall's rules for ``kiptail check``: nftables and iptables, as far as this user may.

Programs are run with fixed arguments and without a shell, for a limited time, and of their output a limited part
is read. Nothing is changed.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from kiptail.checkfacts import NEEDS_ROOT, NOT_INSTALLED, RuleFacts
from kiptail.errors import one_line
from kiptail.firewall import LogRule, log_rules
from kiptail.program import ProgramError, run_program
from kiptail.rulesets import legacy_or_nft, parse_iptables, parse_nft

__all__ = ["gather_rules"]

#: A program may take so long, in seconds, and print so much, in bytes.
_PROGRAM_SECONDS, _PROGRAM_BYTES = 15.0, 64 << 20
#: Not $PATH: who runs this may be root.
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"


def gather_rules() -> RuleFacts:
    """What the tools print, those that are there and may be used."""
    rules: list[LogRule] = []
    read: list[str] = []
    refusals: dict[str, str] = {}
    #: Tables that iptables keeps in nftables, which its own tool tells better.
    borrowed: set[tuple[str, str]] = set()
    missing = []
    for tool, family in (("iptables", "ip"), ("ip6tables", "ip6")):
        output, refusal = _run(f"{tool}-save")
        if output is None:
            missing.append(tool)
            continue
        if refusal:
            refusals[tool] = refusal
            continue
        read.append(tool)
        chains = parse_iptables(output, family=family)
        rules += log_rules("iptables", chains)
        if legacy_or_nft(output) == "nf_tables":
            borrowed |= {(family, table) for _, table, _ in chains}
            if _has_legacy_tables(family):
                output, refusal = _run(f"{tool}-legacy-save")
                rules += log_rules("iptables", parse_iptables(output or "", family=family))
                if refusal:
                    refusals[f"{tool}-legacy"] = refusal
    output, refusal = _run("nft", "-j", "list", "ruleset")
    if output is None:
        missing.append("nft")
    elif refusal:
        refusals["nft"] = refusal
    else:
        try:
            rules += log_rules("nftables", parse_nft(output, without=borrowed))
            read.append("nft")
        except (ValueError, RecursionError) as error:
            refusals["nft"] = one_line(str(error), 100)
    if not read and not refusals:
        refusals["nft, iptables"] = NOT_INSTALLED
    return RuleFacts(tuple(rules), tuple(read), refusals)


def _run(program: str, *arguments: str) -> tuple[str | None, str]:
    """What it prints, and why that is not all; None when there is no such program."""
    path = shutil.which(program, path=_PATH)
    if path is None:
        return None, NOT_INSTALLED
    try:
        done = run_program(
            [path, *arguments],
            env={"PATH": _PATH, "LC_ALL": "C"},
            seconds=_PROGRAM_SECONDS,
            limit=_PROGRAM_BYTES,
        )
    except ProgramError as error:
        return "", str(error)
    if done.code:
        return "", (one_line(done.complaint, 120) or done.fate) if os.geteuid() == 0 else NEEDS_ROOT
    return done.output.decode(errors="replace"), ""


def _has_legacy_tables(family: str) -> bool:
    """Whether the old kernel interface holds rules beside those in nftables."""
    try:
        return bool(Path(f"/proc/net/{family}_tables_names").read_bytes())
    except OSError:
        return False
