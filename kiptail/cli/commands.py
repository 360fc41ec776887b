"""The commands around the daemon: ``check``, ``setup``, ``manifests``, ``kubeconfig``, ``rules``, ``profiles``."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from kiptail import stdio
from kiptail.admin import example_rules, manifests, profile_pages, setup
from kiptail.cli.explain import explain_command
from kiptail.cli.flags import flags, merged
from kiptail.config import options, profile, values
from kiptail.config.settings import DEFAULT_CONFIG, DEFAULT_KUBECONFIG, resolve
from kiptail.config.sources import Levels
from kiptail.config.values import checked
from kiptail.credentials.identity import ACCOUNT, NAMESPACE
from kiptail.errors import KiptailError, SettingsError
from kiptail.text import one_line

__all__ = ["COMMANDS", "UNITS_ENVIRONMENT", "read_environment", "require_place"]

_CHECKED = (
    options.CONFIG,
    options.PREFIX,
    options.PROFILE,
    options.OUTPUT,
    options.KUBECONFIG,
    options.CONTEXT,
    options.SERVER,
    options.NODE_NAME,
    options.JOURNAL_DIRECTORY,
    options.JOURNAL_FILE,
    options.STATE_DIRECTORY,
    options.POD_INDEX,
)
#: The unit's EnvironmentFile: what stands there is the daemon's and not the shell's.
UNITS_ENVIRONMENT = Path("/etc/default/kiptail")
#: Kubernetes names a namespace or service account as DNS does (RFC 1123).
_NAME_LIMIT = 63


@click.command("check")
@flags(_CHECKED)
@click.pass_context
def check_command(ctx: click.Context, /, **given: object) -> None:
    """Check whether kiptail can work here, and say what to do where it cannot.

    One line per finding: ok, warning or problem. It works before anything is configured, too; run it as root, so
    that it can read the firewall's rules. It changes nothing. The exit code is 1 when there is a problem.

    Settings are those of the service: its configuration file, and the variables in /etc/default/kiptail.
    """
    stdio.require_output()
    environ = {**read_environment(UNITS_ENVIRONMENT), **os.environ}
    settings = resolve(merged(ctx.obj, given), environ, now_us=time.time_ns() // 1000, need_prefix=False)
    from kiptail.check.run import check  # noqa: PLC0415 - the cluster client costs half a second

    text, well = check(settings)
    stdio.write(text)
    ctx.exit(0 if well else 1)


@click.command("setup")
@click.option("--write", "to_file", is_flag=True, help="Write the file, with mode 0644, and print nothing.")
@click.option("--force", is_flag=True, help="With --write: replace the file even if somebody changed it.")
@flags((options.CONFIG, options.JOURNAL_DIRECTORY, options.JOURNAL_FILE))
@click.pass_context
def setup_command(ctx: click.Context, /, *, to_file: bool, force: bool, **given: object) -> None:
    """Propose a configuration for this machine: print /etc/kiptail/kiptail.toml.

    Run it as root. It reads the firewall's rules and the journal of the last day, finds which prefixes are logged, what
    becomes of the packets that are logged with each, and which profile reads it. A comment says why each is proposed.
    What is not certain is a comment, too, and makes no Events.

    With --write it writes the file (the one that --config names), unless somebody has changed that.
    """
    if force and not to_file:
        raise SettingsError("--force: says what --write may do: add --write")
    if not to_file:
        stdio.require_output()
    flags_given = merged(ctx.obj, given)
    environ = {**read_environment(UNITS_ENVIRONMENT), **os.environ}
    path = Levels(flags_given, environ, {}).one(options.CONFIG) or DEFAULT_CONFIG
    # The file that is there is not read: it may be what is to be replaced.
    without_file = {**flags_given, options.CONFIG.key: os.devnull}
    settings = resolve(without_file, environ, now_us=time.time_ns() // 1000, need_prefix=False)
    from kiptail.check.run import proposed  # noqa: PLC0415 - as above

    found = proposed(settings)
    for remark in found.remarks:
        stdio.say(f"kiptail: {one_line(remark, 2_000)}")
    text = setup.sealed(found.text)
    if not to_file:
        stdio.write(text)
        return
    if not found.is_useful:
        raise KiptailError("nothing is written: after no rule it is certain that a drop follows; see `kiptail setup`")
    setup.write(path, text, force=force)
    stdio.say(f"kiptail: written to {one_line(str(path))}")
    stdio.say(f"kiptail: next: {_next_steps(found.steps)}")


@click.command("manifests")
@click.option("--identity", type=click.Choice(["dedicated", "kubelet"]), default="dedicated", show_default=True,
              help="dedicated: a service account of its own; kubelet: what the kubelets' own lacks.")  # fmt: skip
@click.option("--namespace", default=NAMESPACE, show_default=True, help="The service account's namespace.")
def manifests_command(identity: str, namespace: str) -> None:
    """Print the RBAC rules that kiptail needs in the cluster, for `kubectl apply -f -`."""
    stdio.write(manifests.kubelet() if identity == "kubelet" else manifests.dedicated(_name("--namespace", namespace)))


@click.command("rules")
@click.option(
    "--for", "firewall", required=True, type=click.Choice(example_rules.FIREWALLS), help="The firewall in use."
)
@click.option("--prefix", "prefix", default=(example_rules.PREFIX,), show_default=example_rules.PREFIX, multiple=True,
              help="The prefix that the rules log with.")  # fmt: skip
def rules_command(firewall: str, prefix: tuple[str, ...]) -> None:
    """Print LOG rules that are safe to add: rate-limited, and neither dropping nor accepting anything themselves."""
    setting = checked("--prefix", prefix[-1], values.prefix)
    if firewall in example_rules.FIXED_PREFIX and setting.text != example_rules.PREFIX:
        raise SettingsError(f"--prefix: {firewall} has prefixes of its own")
    try:
        stdio.write(example_rules.rules_for(firewall, setting.text))
    except ValueError as error:
        raise SettingsError(f"--prefix: {values.quoted(setting.text)} {error}") from error


@click.command("kubeconfig")
@click.option("--kubeconfig", metavar="FILE",
              help="An administrator's kubeconfig. [default: $KUBECONFIG, ~/.kube/config or kubeadm's]")  # fmt: skip
@click.option("--context", metavar="NAME", help="Which of its contexts to use.")
@click.option("--server", metavar="URL", help="Address of the API server for the nodes. [default: the kubeconfig's]")
@click.option("--namespace", default=NAMESPACE, show_default=True, help="The service account's namespace.")
@click.option("--service-account", "account", default=ACCOUNT, show_default=True, help="Its name.")
@click.option("--duration", default="30d", show_default=True, metavar="DURATION",
              help="How long the token is valid. kiptail renews it at 80 % of that, while it runs.")  # fmt: skip
@click.option("--out", required=True, metavar="FILE",
              help="The file to write, of mode 0600; - for the standard output.")  # fmt: skip
def kubeconfig_command(  # noqa: PLR0917 - click passes them by name
    kubeconfig: str | None,
    context: str | None,
    server: str | None,
    namespace: str,
    account: str,
    duration: str,
    out: str,
) -> None:
    """Write a kubeconfig for the nodes, with a token of kiptail's service account.

    Needs an administrator's kubeconfig, and `kiptail manifests` applied. Put the file on each node as
    /etc/kiptail/kubeconfig.
    """
    from kiptail.admin import node_kubeconfig  # noqa: PLC0415 - as above

    if out == "-":
        stdio.require_output()
    else:
        # Before a token is asked for, which would be lost.
        require_place(checked("--out", out, values.path))
    if out == "-" and sys.stdout.isatty():
        raise SettingsError("--out -: the standard output is a terminal, and the file holds a secret")
    wanted = node_kubeconfig.Wanted(
        kubeconfigs=(checked("--kubeconfig", kubeconfig, values.path),)
        if kubeconfig is not None
        else node_kubeconfig.administrators_kubeconfigs(os.environ),
        context=checked("--context", context, values.context) if context is not None else None,
        server=checked("--server", server, values.server_url) if server is not None else None,
        namespace=_name("--namespace", namespace),
        account=_name("--service-account", account),
        duration=_duration(duration),
    )
    data, said = node_kubeconfig.make_kubeconfig(wanted)
    if out == "-":
        stdio.write(data.decode())
    else:
        node_kubeconfig.save(Path(out), data)
        said.append(f"written to {out}; on each node it is /etc/kiptail/kubeconfig, mode 0600")
    for line in said:
        stdio.say(f"kiptail: {one_line(line, 2_000)}")


@click.command("profiles")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.pass_context
def profiles_command(ctx: click.Context, names: tuple[str, ...]) -> None:
    """List the firewalls whose log prefixes kiptail knows by name, or explain some of them.

    What is explained is where a profile applies, each prefix with its verdict, and what is read from samples. The exit
    code is 1 when a sample reads otherwise than its profile says. Profiles of your own are files in
    /etc/kiptail/profiles, NAME.toml; one of them replaces a shipped one of the same name.
    """
    stdio.require_output()
    own = profile.OWN_PROFILES
    found = [profile.load(name, "kiptail profiles", own) for name in names or profile.profile_files(own)]
    if not names:
        stdio.write(profile_pages.listed(found))
        return
    pages = [profile_pages.explained(one) for one in found]
    stdio.write("\n".join(page for page, _ in pages))
    ctx.exit(0 if all(well for _, well in pages) else 1)


COMMANDS: tuple[Any, ...] = (
    check_command,
    setup_command,
    manifests_command,
    kubeconfig_command,
    rules_command,
    profiles_command,
    explain_command,
)


def read_environment(path: Path) -> dict[str, str]:
    """The variables of an EnvironmentFile (systemd.exec(5)), as far as shells read it alike."""
    try:
        with path.open(errors="replace") as file:
            words = shlex.split(file.read(1 << 16), comments=True)
    except (OSError, ValueError):
        return {}
    return {name: value for name, equals, value in (word.partition("=") for word in words) if equals and name}


def _next_steps(first: Iterable[str]) -> str:
    steps = [*first]
    steps += [] if os.path.exists(DEFAULT_KUBECONFIG) else [f"put a kubeconfig into {DEFAULT_KUBECONFIG}"]
    steps += ["run `kiptail check`", "then `systemctl enable --now kiptail` (restart it if it runs)"]
    return ", ".join(steps)


def require_place(path: Path) -> None:
    """Raise KiptailError where no file can be written under this path of ``--out``."""
    shown = one_line(str(path))
    if path.is_dir():
        raise KiptailError(f"--out: cannot write {shown}: it is a directory, name a file in it")
    if not path.parent.is_dir():
        raise KiptailError(f"--out: cannot write {shown}: its directory does not exist, make it first")


def _duration(text: str) -> float:
    seconds = checked("--duration", text, values.duration)
    if seconds < 600:
        raise SettingsError("--duration: the API server issues no token for less than 10m")
    return seconds


def _name(source: str, text: str) -> str:
    if len(text) > _NAME_LIMIT or not all(c.isascii() and (c.isalnum() or c in "-.") for c in text) or not text:
        raise SettingsError(f"{source}: {values.quoted(text)} is no name: write letters, digits and '-'")
    return text.lower()
