"""Reads the firewall's rules for ``kiptail check`` and ``setup``: nftables and iptables, as far as this user may.

Programs are run with fixed arguments and without a shell, for a limited time, and of their output a limited part
is read. Nothing is changed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from kiptail.check.facts import NEEDS_ROOT, NOT_INSTALLED, RuleFacts
from kiptail.check.firewall.combined import combined
from kiptail.check.firewall.iptables import legacy_or_nft, parse_iptables, refused_tables
from kiptail.check.firewall.log_rules import log_rules
from kiptail.check.firewall.nftables import parse_nft
from kiptail.check.firewall.rulesets import Chain, Key, opaque_tables
from kiptail.program import ProgramError, run_program
from kiptail.text import one_line

__all__ = ["gather_rules"]

#: The longest that a program may take, in seconds, and the most that it may print, in bytes.
_PROGRAM_SECONDS, _PROGRAM_BYTES = 15.0, 64 << 20
#: `nft list tables` prints "table FAMILY NAME", three words; the most tables that are read, one by one.
_WORDS_OF_A_TABLE, _MOST_TABLES = 3, 100
#: Not $PATH: who runs this may be root.
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"
#: Stand in the names of Calico's chains for one pod's packets, to and from it (WorkloadToEndpointPfx of Felix).
_CALICO_CHAINS = ("cali-tw-", "cali-fw-")


def gather_rules() -> RuleFacts:
    """What the tools print, those that are there and may be used."""
    read: list[str] = []
    refusals: dict[str, str] = {}
    by_nft: dict[Key, Chain] = {}
    by_iptables: dict[Key, Chain] = {}
    listed, refusal = _run("nft", "-j", "list", "ruleset")
    if listed is not None:
        if refusal:
            refusals["nft"] = refusal
        else:
            by_nft = _nft_chains(listed, refusals)
    for tool, family in (("iptables", "ip"), ("ip6tables", "ip6")):
        output, refusal = _run(f"{tool}-save")
        if output is None:
            continue
        if refusal:
            refusals[tool] = refusal
            continue
        read.append(tool)
        written = legacy_or_nft(output)
        outputs = {written or "nf_tables": output}
        # Both interfaces can hold rules, and `iptables-save` shows those of one.
        if written != "nf_tables" and '"xt"' in (listed or ""):
            outputs["nf_tables"] = _run(f"{tool}-nft-save")[0] or ""
        if written != "legacy" and _has_legacy_tables(family):
            text, refusal = _run(f"{tool}-legacy-save")
            outputs["legacy"] = text or ""
            if refusal:
                refusals[f"{tool}-legacy"] = refusal
        for interface, text in outputs.items():
            by_iptables |= parse_iptables(text, family=family, interface=interface)
            if refused_tables(text) and (listed is None or "nft" in refusals):
                refusals[tool] = f"only nft can show {_tables((family, name) for name in refused_tables(text))}"
    if listed is not None and "nft" not in refusals:
        read.append("nft")
    chains = combined(by_iptables, by_nft)
    opaque = opaque_tables(chains)
    if opaque:
        tools = sorted({chain.tool for key, chain in chains.items() if (key.family, key.table) in opaque})
        refusals[", ".join(tools)] = f"rules with extensions that are not shown in {_tables(opaque)}"
    if not read and not refusals:
        refusals["nft, iptables"] = NOT_INSTALLED
    calico = any(sign in key.chain for key in chains for sign in _CALICO_CHAINS)
    return RuleFacts(tuple(log_rules(chains, complete=not refusals)), tuple(read), refusals, calico)


def _nft_chains(listed: str, refusals: dict[str, str]) -> dict[Key, Chain]:
    """The chains of nftables; ``listed`` is all that nft printed of them as JSON."""
    plain = (_run("nft", "-a", "list", "ruleset")[0] or "") if '"xt"' in listed else ""
    try:
        return parse_nft(listed, listed=plain)
    except (ValueError, RecursionError) as error:
        complaint = one_line(str(error), 100)
    # nft 1.0.6 ends in the middle of a table that has flags: the others are there to be read.
    chains: dict[Key, Chain] = {}
    unread = []
    tables = [line.split(" ") for line in (_run("nft", "list", "tables")[0] or "").splitlines()]
    for _, family, name in [words for words in tables if len(words) == _WORDS_OF_A_TABLE][:_MOST_TABLES]:
        text = _run("nft", "-j", "list", "table", family, name)[0] or ""
        try:
            chains |= parse_nft(text, listed=plain)
        except (ValueError, RecursionError):
            unread.append((family, name))
    refusals["nft"] = f"cannot show {_tables(unread)} as JSON" if unread else complaint
    return chains


def _tables(tables: Iterable[tuple[str, str]]) -> str:
    return one_line(", ".join(f"table {family} {name}" for family, name in sorted(tables)), 100)


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
