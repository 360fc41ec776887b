"""What packages hold that follows from the table of options and the command line.

    python -m tools.package_files DIRECTORY    the configuration file, the manual pages and the shells' completions
    python -m tools.package_files --toml       the configuration file, to the standard output

packaging/kiptail.toml is the last of them that is kept, for people to read; a test compares.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from kiptail import __version__
from kiptail.admin.setup import sealed
from kiptail.cli.drops import drops
from kiptail.cli.main import cli
from kiptail.config.options import OPTIONS, Option
from kiptail.quiet.noise import NOISE

__all__ = ["completions", "configuration", "manual", "write"]

MANUALS = Path(__file__).parent.parent / "packaging" / "man"
WIDTH = 116

#: What an option without a default of its own could be set to, in the notation of the flag.
EXAMPLES: Mapping[str, str] = {
    "prefix": "calico-drop:",
    "profile": "antrea",
    "nflog-group": "100",
    "ulogd-unit": "ulogd2.service",
    "ignore": "replies",
    "pods": "pods.json",
    "kubeconfig": "/etc/kiptail/kubeconfig",
    "context": "admin@cluster",
    "server": "https://10.0.0.1:6443",
    "node-name": "worker-3",
    "journal-directory": "/var/log/journal",
    "journal-file": "/root/system.journal",
    "since": "-10m",
    "pod-cidr": "10.244.0.0/16",
    "pod-identifier-label": "app.kubernetes.io/name",
    "state-directory": "/var/lib/kiptail",
}

#: The programs, and of each the files' names, which are those that bash, zsh and fish look for.
PROGRAMS: Mapping[str, click.Command] = {"kiptail": cli, "kubectl-drops": drops}
SHELLS: Mapping[str, type[ShellComplete]] = {"{}": BashComplete, "_{}": ZshComplete, "{}.fish": FishComplete}

_HEAD = """\
# Settings of kiptail: see kiptail.toml(5). Remove the # in front of what you change; what is commented out is the
# default, or an example where it says "for example". After a change: systemctl restart kiptail
#
# kiptail runs as a user without rights: this file must be readable by everybody. It holds no secrets.
"""

_TAIL = """\

# What packets of an NFLOG group stand for that have no log prefix; the group is read. In the place of verdict: profile,
# one of kube-router, k3s and weave; in the place of group: unit = "ulogd2.service".
#[[nflog]]
#group = 100
#verdict = "reject"

# Packets that make no Events: all keys of a table have to hold. Counted in the metrics and in the flow records; with
# what = "all" only as left out. In the place of ignore above; further keys: kiptail.toml(5).
#[[ignore]]
#src = "198.51.100.0/24"
#port = [22, "8000-8100"]
#reason = "scanner"

# A prefix can have a verdict: drop, reject, or log and accept (counted in the metrics, no Event). Tables stand at the
# end of the file, and add to the prefixes above.
#[[prefixes]]
#text = "FINAL_REJECT:"
#verdict = "reject"
"""


def configuration() -> str:
    """A configuration file that sets nothing and tells of everything that can be set."""
    text = _HEAD + "".join(_setting(option) for option in OPTIONS if option.in_file) + _TAIL
    # So `kiptail setup --write` knows whether somebody has changed it since.
    return sealed(text)


def _setting(option: Option[Any]) -> str:
    note = "" if option.switch or option.default is not None else "\nFor example:"
    told = "\n".join(textwrap.wrap(option.help_text, WIDTH, break_on_hyphens=False, break_long_words=False)) + note
    return "\n" + textwrap.indent(told, "# ") + f"\n#{option.name} = {_value(option)}\n"


def _value(option: Option[Any]) -> str:
    """The default or an example, as TOML has it: JSON's texts are TOML's."""
    if option.switch:
        return "false"
    text = EXAMPLES[option.name] if option.default is None else option.default
    if option.number:
        return f"[{text}]" if option.repeatable else text
    return json.dumps([text] if option.repeatable else text)


def manual(template: str) -> str:
    """A manual page: what stands in ``template``, with the parts that are made here in place of ``@NAME@``."""
    parts: Mapping[str, Callable[[], str]] = {
        "VERSION": lambda: _roff(__version__),
        "DESCRIPTION": lambda: _paragraphs(cli.help or ""),
        "OPTIONS": lambda: "\n".join(_flag(option) for option in OPTIONS),
        "KEYS": lambda: "\n".join(_key(option) for option in OPTIONS if option.in_file),
        "COMMANDS": lambda: "\n".join(_commands(cli)),
        "PEERS": lambda: "\n".join(_peers()),
        "NOISE": lambda: "\n".join(_noise()),
        "DROPS": lambda: _paragraphs(drops.help or ""),
        "DROPSOPTIONS": lambda: "\n".join(_parameters(drops)),
        "DROPSCOMMANDS": lambda: "\n".join(_commands(drops, "kubectl drops")),
    }
    return re.sub("@([A-Z]+)@", lambda match: parts[match[1]](), template)


def _flag(option: Option[Any]) -> str:
    value = "" if option.switch else f" \\fI{_roff(option.metavar)}\\fR"
    return f".TP\n\\fB{_roff(option.flag)}\\fR{value}\n{_roff(option.help_text)}"


def _key(option: Option[Any]) -> str:
    kind = "true or false" if option.switch else f"{'list of ' if option.repeatable else ''}{option.metavar}"
    return f".TP\n\\fB{_roff(option.name)}\\fR = \\fI{_roff(kind)}\\fR\n{_roff(option.help_text)}"


def _peers() -> Iterator[str]:
    for option in OPTIONS:
        if option.peer:
            yield f".TP\n\\fB{_roff(option.peer.variable)}\\fR\n{_roff(option.flag)}"


def _noise() -> Iterator[str]:
    for name, text in NOISE.items():
        yield f".TP\n\\fB{_roff(name)}\\fR\n{_roff(text[0].upper() + text[1:])}"


def _commands(group: click.Group, above: str = "kiptail") -> Iterator[str]:
    for name, command in sorted(group.commands.items()):
        if command.hidden:
            continue
        words = [above, name, *_options(command), *map(_argument, command.params)]
        yield f".SS {_roff(' '.join(filter(None, words)))}\n{_paragraphs(command.help or '')}"
        yield from _parameters(command)
        if isinstance(command, click.Group):
            yield from _commands(command, f"{above} {name}")


def _options(command: click.Command) -> list[str]:
    return ["[OPTION]..."] if any(isinstance(each, click.Option) for each in command.params) else []


def _argument(parameter: click.Parameter) -> str:
    """An argument's name as usage lines have it; "" of an option."""
    if not isinstance(parameter, click.Argument):
        return ""
    return parameter.metavar or str(parameter.name).upper()


def _parameters(command: click.Command) -> Iterator[str]:
    return (_parameter(it) for it in command.params if isinstance(it, click.Option) and not it.hidden)


def _parameter(option: click.Option) -> str:
    value = "" if option.is_flag else f" \\fI{_roff(option.metavar or option.type.name.upper())}\\fR"
    names = ", ".join(f"\\fB{_roff(name)}\\fR" for name in option.opts)
    return f".TP\n{names}{value}\n{_roff(option.help or '')}"


def _paragraphs(text: str) -> str:
    """A help text of click's, in which an empty line parts paragraphs and a line ``\\b`` keeps one's lines."""
    return "\n.PP\n".join(_paragraph(part) for part in inspect.cleandoc(text).split("\n\n"))


def _paragraph(text: str) -> str:
    if text.startswith("\b"):
        return f".nf\n{_lines(text.split(chr(10))[1:])}\n.fi"
    return _roff(" ".join(text.split()))


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(_roff(line) for line in lines)


def _roff(text: str) -> str:
    """``text`` with nothing in it that roff takes for its own; dashes as they are typed."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def completions(program: str, shell: type[ShellComplete]) -> str:
    """What a shell reads to complete a program's command line."""
    # Not shell.source(): that of bash looks which bash there is on the machine that builds the package.
    complete = shell(PROGRAMS[program], {}, program, f"_{program.replace('-', '_').upper()}_COMPLETE")
    return (complete.source_template % complete.source_vars()).lstrip("\n")


def write(directory: Path) -> None:
    """Everything, into a directory that is made."""
    (directory / "completions").mkdir(parents=True, exist_ok=True)
    (directory / "kiptail.toml").write_text(configuration())
    for template in MANUALS.iterdir():
        (directory / template.name).write_text(manual(template.read_text()))
    for program in PROGRAMS:
        for name, shell in SHELLS.items():
            (directory / "completions" / name.format(program)).write_text(completions(program, shell))


def main(arguments: list[str]) -> None:
    match arguments:
        case ["--toml"]:
            sys.stdout.write(configuration())
        case [directory] if not directory.startswith("-"):
            write(Path(directory))
        case _:
            sys.exit(inspect.getdoc(sys.modules[__name__]))


if __name__ == "__main__":
    main(sys.argv[1:])
