"""Settings: values, the levels they come from, and what must hold between them."""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, fields
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st

from kiptail.config import options
from kiptail.config.options import OPTIONS, Option
from kiptail.config.profile import load
from kiptail.config.settings import Settings, resolve
from kiptail.errors import SettingsError
from kiptail.netfilter.nflog import NflogSource
from kiptail.netfilter.prefixes import PrefixRule, Verdict

NOW_US = 1_750_000_000_000_000
NOWHERE = Path("/nonexistent/kiptail.toml")


def settings(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    config: Path = NOWHERE,
) -> Settings:
    return resolve({"prefix": ("p:",)} | dict(flags or {}), environ or {}, now_us=NOW_US, default_config=config)


def refusal(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    config: Path = NOWHERE,
) -> str:
    with pytest.raises(SettingsError) as caught:
        settings(flags, environ, config=config)
    text = str(caught.value)
    assert text.isprintable(), "an error is one line"
    return text


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "kiptail.toml"


# --- what holds without being told --------------------------------------------------------------------------


def test_defaults() -> None:
    assert settings() == Settings(
        kubeconfigs=(Path("/etc/kiptail/kubeconfig"),),
        context=None,
        server=None,
        node_name=None,
        prefixes=(PrefixRule("p:", "drop"),),
        profiles=(),
        nflog=(),
        journal_directory=None,
        journal_files=(),
        since_us=None,
        follow=True,
        state_directory=Path("/var/lib/kiptail"),
        pod_index="node",
        pod_cidrs=(),
        pods=None,
        output="text",
        expire_after_s=3600.0,
        repeat_interval_s=120.0,
        give_up_after_s=86_400.0,
        flows_per_address=20,
        new_addresses=500,
        budget_window_s=600.0,
        max_flows=20_000,
        pod_identifier="name_with_namespace",
        pod_identifier_label=None,
        explain=True,
        node_events=False,
        event_reason="PacketDrop",
        event_component="kiptail",
        metrics_address=("127.0.0.1", 9877),
        metrics_labels="namespace",
        log_drops=False,
        log_level="info",
        log_format="auto",
        dry_run=False,
    )


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        settings().follow = False  # type: ignore[misc]


def test_without_a_prefix_the_error_says_how_to_find_one() -> None:
    with pytest.raises(SettingsError, match=r"--prefix.*kiptail check"):
        resolve({}, {}, now_us=NOW_US, default_config=NOWHERE)


def test_a_recorded_journal_does_not_expire_unless_asked() -> None:
    assert settings({"no_follow": True}).expire_after_s is None
    assert settings({"no_follow": True, "give_up_after": "1h"}).give_up_after_s is None
    assert settings({"no_follow": True, "expire_after": "2h"}).expire_after_s == 7200.0
    assert settings({"no_follow": True}, {"PACKET_DROP_EXPIRATION_MINUTES": "5"}).expire_after_s == 300.0


# --- one value ----------------------------------------------------------------------------------------------

UTC_NOON_US = 1_735_732_800_000_000

GOOD = [
    ("repeat_interval", "30s", "repeat_interval_s", 30.0),
    ("repeat_interval", "1h30m", "repeat_interval_s", 5400.0),
    ("expire_after", "7d", "expire_after_s", 604_800.0),
    ("expire_after", "7d", "give_up_after_s", 691_200.0),  # what still counts has a day to be told
    ("give_up_after", "2h", "give_up_after_s", 7_200.0),
    ("flows_per_address", "100", "flows_per_address", 100),
    ("since", "now", "since_us", NOW_US),
    ("since", "-10m", "since_us", NOW_US - 600_000_000),
    ("since", "-1d12h", "since_us", NOW_US - 129_600_000_000),
    ("since", "@1700000000", "since_us", 1_700_000_000_000_000),
    ("since", "@1700000000.5", "since_us", 1_700_000_000_500_000),
    ("since", "@1700000000.123456789", "since_us", 1_700_000_000_123_456),
    ("since", "2025-01-01T12:00:00Z", "since_us", UTC_NOON_US),
    ("since", "2025-01-01T14:00:00.25+02:00", "since_us", UTC_NOON_US + 250_000),
    ("metrics_address", "off", "metrics_address", None),
    ("metrics_address", "OFF", "metrics_address", None),
    ("metrics_address", "[::1]:9877", "metrics_address", ("::1", 9877)),
    ("metrics_address", "localhost:0", "metrics_address", ("localhost", 0)),
    ("server", "https://10.0.0.1:6443/", "server", "https://10.0.0.1:6443"),
    ("server", "https://proxy.example/k8s/c1", "server", "https://proxy.example/k8s/c1"),
    ("server", "https://[fd00::1]:6443", "server", "https://[fd00::1]:6443"),
    ("node_name", "worker-1.example.com", "node_name", "worker-1.example.com"),
    ("pod_identifier_label", "app.kubernetes.io/name", "pod_identifier_label", "app.kubernetes.io/name"),
    ("event_reason", "PacketDropped2", "event_reason", "PacketDropped2"),
    ("event_component", "example.com/kiptail", "event_component", "example.com/kiptail"),
    ("log_level", "WARNING", "log_level", "warning"),
    ("output", "json", "output", "json"),
    ("pod_index", "cluster", "pod_index", "cluster"),
    ("pod_index", "NODE", "pod_index", "node"),
    ("explain", "OFF", "explain", False),
    ("pod_identifier", "workload", "pod_identifier", "workload"),
    ("metrics_labels", "Workload", "metrics_labels", "workload"),
    ("explain", "on", "explain", True),
    ("state_directory", "state", "state_directory", Path("state")),
    ("journal_file", ("a.journal", "b.journal"), "journal_files", (Path("a.journal"), Path("b.journal"))),
    (
        "pod_cidr",
        ("10.244.0.0/16", "fd00:10:244::/56", "10.244.0.0/16"),
        "pod_cidrs",
        (ipaddress.ip_network("10.244.0.0/16"), ipaddress.ip_network("fd00:10:244::/56")),
    ),
    ("prefix", (" calico-drop: ", "[UFW BLOCK]"), "prefixes", (
        PrefixRule("calico-drop:", "drop"), PrefixRule("[UFW BLOCK]", "drop"))),
    ("prefix", ("a", "a "), "prefixes", (PrefixRule("a", "drop"),)),
]  # fmt: skip


@pytest.mark.parametrize(("flag", "text", "field", "value"), GOOD, ids=[f"{row[0]}={row[1]}" for row in GOOD])
def test_values_that_are_understood(flag: str, text: object, field: str, value: object) -> None:
    assert getattr(settings({flag: text}), field) == value


BAD = [
    ("repeat_interval", "30", "unit"),
    ("repeat_interval", "0s", "too short"),
    ("repeat_interval", "-5m", "duration"),
    ("repeat_interval", "25h", "too long"),
    ("repeat_interval", "1.5h", "duration"),
    ("repeat_interval", "", "duration"),
    ("repeat_interval", "٣s", "duration"),
    ("expire_after", "366d", "too long"),
    ("flows_per_address", "0", "is not from 1 to 1000"),
    ("new_addresses", "-1", "no whole number"),
    ("max_flows", "1e4", "no whole number"),
    ("max_flows", "٣٣٣", "no whole number"),
    ("max_flows", "9" * 5000, "no whole number"),
    ("expire_after", "999999999d" * 50, "too long"),
    ("since", "yesterday", "@1700000000"),
    ("since", "-", "duration"),
    ("since", "-0s", "too short"),
    ("since", "@1e9", "time"),
    ("since", "@-1", "time"),
    ("since", "@99999999999", "future"),
    ("since", "1969-12-31T00:00:00Z", "1970"),
    ("since", "0001-01-01", "time|1970"),
    ("since", "9999-12-31T23:59:59", "time|future"),
    ("since", "2025-02-30", "time"),
    ("metrics_address", "9877", "HOST:PORT"),
    ("metrics_address", ":9877", "0.0.0.0:9877"),
    ("metrics_address", "::1:9877", "brackets"),
    ("metrics_address", "[1.2.3.4]:9877", "IPv6"),
    ("metrics_address", "localhost:65536", "port"),
    ("metrics_address", "localhost:http", "port"),
    ("metrics_address", "a b:1", "host name"),
    ("server", "10.0.0.1:6443", "https://"),
    ("server", "https://", "https://"),
    ("server", "https://host:99999", "https://"),
    ("server", "https://[::1", "https://"),
    ("server", "https://host/?a=b", "https://"),
    ("server", "https://a host", "https://"),
    ("node_name", "Worker_1", "kubectl get nodes"),
    ("node_name", "a" * 254, "node name"),
    ("context", "", "context"),
    ("prefix", ("",), "empty"),
    ("prefix", (" \t ",), "empty"),
    ("prefix", ("x" * 128,), "127"),
    ("prefix", ("ä" * 64,), "127"),
    ("prefix", ("a\x1bb",), "control"),
    ("prefix", tuple(f"p{number}" for number in range(101)), "100"),
    ("pod_index", "all", "none of node, cluster"),
    ("explain", "yes", "none of on, off"),
    ("pod_cidr", ("10.244.1.3/16",), "did you mean 10.244.0.0/16"),
    ("pod_cidr", ("10.244.0.0",), "range"),
    ("pod_cidr", ("10.244.0.0/33",), "range"),
    ("pod_cidr", ("fe80::%eth0/64",), "range"),
    ("pod_identifier", "uid", "name_with_namespace"),
    ("metrics_labels", "pod", "namespace, workload"),
    ("pod_identifier", "label", "--pod-identifier-label"),
    ("pod_identifier_label", "a b", "label key"),
    ("event_reason", "packet drop", "CamelCase"),
    ("event_reason", "P" * 129, "128"),
    ("event_component", "two words", "component"),
    ("event_component", "c" * 254, "component"),
    ("log_level", "trace", "debug, info, warning, error"),
    ("output", "yaml", "text, json"),
    ("state_directory", "a\0b", "NUL"),
    ("kubeconfig", "", "empty"),
    ("kubeconfig", "\ud800", "characters"),
    ("journal_file", ("x" * 5000,), "4095"),
]


@pytest.mark.parametrize(("flag", "text", "hint"), BAD, ids=[f"{row[0]}={row[1]!s:.30}" for row in BAD])
def test_values_that_are_refused_name_the_option_and_the_way_out(flag: str, text: object, hint: str) -> None:
    message = refusal({flag: text})
    assert message.startswith(f"--{flag.replace('_', '-')}: ")
    assert any(word in message for word in hint.split("|"))


def test_a_time_without_offset_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "EAST-3")
    time.tzset()
    try:
        assert settings({"since": "2025-01-01T15:00:00"}).since_us == UTC_NOON_US
        assert settings({"since": "2025-01-01"}).since_us == UTC_NOON_US - 15 * 3_600_000_000
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("password", ["hunter2", "a/hunter2", "a@hunter2", "hunter2?", "hunter2#", "hunter2" * 300])
def test_a_password_in_an_address_is_not_repeated(password: str) -> None:
    message = refusal({"server": f"https://admin:{password}@10.0.0.1:6443"})
    assert "hunter2" not in message
    assert message.startswith("--server: ")


@given(
    st.integers(min_value=0, max_value=NOW_US),
    st.integers(min_value=-23, max_value=23).map(lambda hours: timezone(timedelta(hours=hours))),
)
def test_a_time_survives_being_written(us: int, zone: timezone) -> None:
    written = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)).astimezone(zone)
    assert settings({"since": written.isoformat()}).since_us == us
    assert settings({"since": f"@{us // 1_000_000}.{us % 1_000_000:06}"}).since_us == us


# --- levels -------------------------------------------------------------------------------------------------


def test_flags_beat_variables_beat_the_peers_variables_beat_the_file(toml: Path) -> None:
    flags: dict[str, object] = {}
    environ: dict[str, str] = {}
    assert settings(flags, environ, config=toml).repeat_interval_s == 120.0
    toml.write_text('repeat-interval = "1s"')
    assert settings(flags, environ, config=toml).repeat_interval_s == 1.0
    environ["REPEATED_EVENTS_INTERVAL_MINUTES"] = "2"
    assert settings(flags, environ, config=toml).repeat_interval_s == 120.0
    environ["KIPTAIL_REPEAT_INTERVAL"] = "3s"
    assert settings(flags, environ, config=toml).repeat_interval_s == 3.0
    flags["repeat_interval"] = "4s"
    assert settings(flags, environ, config=toml).repeat_interval_s == 4.0


PEER = [
    ("PACKET_DROP_EXPIRATION_MINUTES", "10", "expire_after_s", 600.0),
    ("REPEATED_EVENTS_INTERVAL_MINUTES", "5", "repeat_interval_s", 300.0),
    ("KUBE_EVENT_DISPLAY_REASON", "Denied", "event_reason", "Denied"),
    ("KUBE_EVENT_SOURCE_COMPONENT_NAME", "tailer", "event_component", "tailer"),
    ("POD_IDENTIFIER", "namespace", "pod_identifier", "namespace"),
    ("POD_IDENTIFIER_LABEL", "app", "pod_identifier_label", "app"),
    ("JOURNAL_DIRECTORY", "/var/log/journal", "journal_directory", Path("/var/log/journal")),
    ("KUBE_API_SERVER", "https://10.0.0.1:6443", "server", "https://10.0.0.1:6443"),
    ("METRICS_SERVER_PORT", "9090", "metrics_address", ("127.0.0.1", 9090)),
    ("METRICS_SERVER_PORT", "tcp://10.96.0.12:443", "metrics_address", ("127.0.0.1", 9877)),
    ("LOG_LEVEL", "WARN", "log_level", "warning"),
    ("LOG_LEVEL", "", "log_level", "info"),
]


@pytest.mark.parametrize(("variable", "text", "field", "value"), PEER, ids=[f"{row[0]}={row[1]}" for row in PEER])
def test_variables_of_kube_iptables_tailer(variable: str, text: str, field: str, value: object) -> None:
    assert getattr(settings(environ={variable: text}), field) == value


def test_the_peers_prefix() -> None:
    chosen = resolve({}, {"IPTABLES_LOG_PREFIX": "calico-drop:"}, now_us=NOW_US, default_config=NOWHERE)
    assert chosen.prefixes == (PrefixRule("calico-drop:", "drop"),)


@pytest.mark.parametrize("variable", ["PACKET_DROP_EXPIRATION_MINUTES", "METRICS_SERVER_PORT", "POD_IDENTIFIER"])
def test_a_peers_variable_is_named_in_its_error(variable: str) -> None:
    assert refusal(environ={variable: "many"}).startswith(f"{variable}: ")


def test_lists_in_variables_are_one_a_line() -> None:
    environ = {"KIPTAIL_PREFIX": "[UFW BLOCK] \n\n  drop: \r\n"}
    chosen = resolve({}, environ, now_us=NOW_US, default_config=NOWHERE)
    assert [prefix.text for prefix in chosen.prefixes] == ["[UFW BLOCK]", "drop:"]


@pytest.mark.parametrize(
    ("text", "on"), [("true", True), ("1", True), ("Yes", True), ("off", False), ("0", False), ("", False)]
)
def test_switches_in_variables(text: str, on: bool) -> None:
    assert settings(environ={"KIPTAIL_DRY_RUN": text}).dry_run is on


def test_a_switch_that_is_neither() -> None:
    assert refusal(environ={"KIPTAIL_DRY_RUN": "perhaps"}).startswith("KIPTAIL_DRY_RUN: 'perhaps' ")


def test_a_variable_can_turn_off_what_the_file_turns_on(toml: Path) -> None:
    toml.write_text("log-drops = true\n")
    assert settings(config=toml).log_drops is True
    assert settings(environ={"KIPTAIL_LOG_DROPS": "false"}, config=toml).log_drops is False


# --- the file -----------------------------------------------------------------------------------------------


def test_every_option_can_stand_in_the_file(toml: Path) -> None:
    toml.write_text("""
kubeconfig = "/k"
context = "c"
server = "https://s:1"
node-name = "n"
prefix = ["plain:"]
profile = ["calico-enterprise"]
journal-directory = "/j"
since = 2025-01-01T12:00:00Z
no-follow = true
state-directory = "/s"
pod-index = "cluster"
pod-cidr = ["10.0.0.0/8"]
output = "json"
expire-after = "5m"
repeat-interval = "6m"
give-up-after = "2h"
flows-per-address = 5
new-addresses = 50
budget-window = "1m"
max-flows = 1000
pod-identifier = "label"
pod-identifier-label = "app"
metrics-labels = "workload"
explain = "off"
node-events = true
event-reason = "R"
event-component = "e"
metrics-address = "off"
log-drops = true
log-level = "debug"
log-format = "json"
dry-run = true
nflog-group = [100]
ulogd-unit = ["ulogd2.service"]

[[prefixes]]
text = "calico-reject: "
verdict = "reject"

[[prefixes]]
text = "seen:"
verdict = "log"

[[prefixes]]
text = "bare:"

[[nflog]]
group = 86
verdict = "reject"
""")
    assert resolve({}, {}, now_us=NOW_US, default_config=toml) == Settings(
        kubeconfigs=(Path("/k"),),
        context="c",
        server="https://s:1",
        node_name="n",
        prefixes=(
            PrefixRule("calico-reject:", "reject"),
            PrefixRule("seen:", "log"),
            PrefixRule("bare:", "drop"),
            PrefixRule("plain:", "drop"),
            PrefixRule("calico-drop:", "drop"),
        ),
        profiles=(load("calico-enterprise", "key profile"),),
        nflog=(
            NflogSource("kiptail-ulogd@86.service", "NFLOG group 86", verdict=Verdict.REJECT, group=86),
            NflogSource("kiptail-ulogd@100.service", "NFLOG group 100", group=100),
            NflogSource("ulogd2.service", "NFLOG to ulogd2.service"),
        ),
        journal_directory=Path("/j"),
        journal_files=(),
        since_us=UTC_NOON_US,
        follow=False,
        state_directory=Path("/s"),
        pod_index="cluster",
        pod_cidrs=(ipaddress.IPv4Network("10.0.0.0/8"),),
        pods=None,
        output="json",
        expire_after_s=300.0,
        repeat_interval_s=360.0,
        give_up_after_s=7200.0,
        flows_per_address=5,
        new_addresses=50,
        budget_window_s=60.0,
        max_flows=1000,
        pod_identifier="label",
        pod_identifier_label="app",
        explain=False,
        node_events=True,
        event_reason="R",
        event_component="e",
        metrics_address=None,
        metrics_labels="workload",
        log_drops=True,
        log_level="debug",
        log_format="json",
        dry_run=True,
    )


def test_a_prefix_on_the_command_line_replaces_those_of_the_file(toml: Path) -> None:
    toml.write_text('[[prefixes]]\ntext = "p:"\nverdict = "log"\n')
    assert settings(config=toml).prefixes == (PrefixRule("p:", "drop"),)


BAD_FILES = [
    ("repeat_interval = '2m'", "did you mean repeat-interval"),
    ("prefx = ['a']", "did you mean prefix"),
    ("zzz = 1", "unknown key 'zzz'"),
    ("config = 'x'", "unknown key 'config'"),
    ("repeat-interval = 120", "key repeat-interval: is no text"),
    ("max-flows = '200'", "key max-flows: is no whole number"),
    ("max-flows = true", "key max-flows: is no whole number"),
    ("max-flows = 20.5", "key max-flows: is no whole number"),
    ("max-flows = 2", "key max-flows: '2' is not from 100"),
    ("repeat-interval = '2'", "key repeat-interval: '2' is no duration"),
    ("prefix = 'calico-drop:'", "key prefix: is no list"),
    ("prefix = [1]", "key prefix: is no list"),
    ("no-follow = 'yes'", "key no-follow: is neither"),
    ("[kubeconfig]\npath = 'x'", "key kubeconfig: is no text"),
    ("kubeconfig = \"a\\u0000b\"", "NUL"),
    ("prefixes = ['a']", "[[prefixes]]"),
    ("[prefixes]\ntext = 'a'", "[[prefixes]]"),
    ("[[prefixes]]\nverdict = 'drop'", "table 1: has no text"),
    ("[[prefixes]]\ntext = 'a'\nverdict = 'deny'", "drop, reject, log"),
    ("[[prefixes]]\ntext = 'a'\nverdict = ['drop']", "drop, reject, log"),
    ("[[prefixes]]\ntext = 'a'\nverdit = 'drop'", "did you mean verdict"),
    ("[[prefixes]]\ntext = ''", "table 1: '' is empty"),
    ("[[prefixes]]\ntext = 'a'\nverdict = 'log'\n[[prefixes]]\ntext = 'a'", "two verdicts, log and drop"),
    ("prefix = ['a']\n[[prefixes]]\ntext = 'a'\nverdict = 'log'", "two verdicts, log and drop"),
    ("a = ", "is not TOML"),
    ("\nx = 1\nx = 2\n\n", "line 3"),
    ("a = " + "[" * 5000, "is not TOML"),
    ("a = " + "1" * 5000, "is not TOML"),
    ("'\\u001b[31m' = 1", "unknown key"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "hint"), BAD_FILES, ids=[f"{row[0]!r:.40}" for row in BAD_FILES])
def test_a_file_that_is_refused_is_named_with_its_key(toml: Path, content: str, hint: str) -> None:
    toml.write_text(content)
    with pytest.raises(SettingsError) as caught:
        resolve({}, {}, now_us=NOW_US, default_config=toml)
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith(f"{toml}: ")
    assert hint in message


def test_a_file_that_is_not_utf8_is_named_with_its_line(toml: Path) -> None:
    toml.write_bytes(b"# one\n# two\n# \xff\n")
    assert refusal(config=toml) == f"{toml}: is not UTF-8 (at line 3)"


def test_a_file_that_is_too_large_is_not_read(toml: Path) -> None:
    toml.write_bytes(b"#" * (1 << 20) + b"\n")
    assert "larger" in refusal(config=toml)


def test_the_file_is_checked_as_a_whole_also_where_a_flag_overrides_it(toml: Path) -> None:
    toml.write_text("repeat-interval = 'x'")
    assert "key repeat-interval" in refusal({"repeat_interval": "1m"}, config=toml)


@pytest.mark.parametrize(
    ("flags", "environ", "source"),
    [
        ({"config": "/nonexistent/a.toml"}, {}, "--config"),
        ({}, {"KIPTAIL_CONFIG": "/nonexistent/a.toml"}, "KIPTAIL_CONFIG"),
        ({"config": "/dev/null/a.toml"}, {}, "--config"),
        ({"config": "/"}, {}, "--config"),
    ],
)
def test_a_file_that_is_named_must_be_there(flags: dict[str, object], environ: dict[str, str], source: str) -> None:
    assert refusal(flags, environ).startswith(f"{source}: /")


def test_a_file_that_is_named_replaces_the_default_one(toml: Path, tmp_path: Path) -> None:
    toml.write_text("log-level = 'debug'")
    other = tmp_path / "other.toml"
    other.write_text("output = 'json'")
    chosen = settings({"config": str(other)}, config=toml)
    assert (chosen.output, chosen.log_level) == ("json", "info")


# --- between settings ---------------------------------------------------------------------------------------


def test_pods_from_a_file_serve_only_a_dry_run() -> None:
    assert "--dry-run" in refusal({"pods": "pods.json"})
    chosen = settings({"pods": "pods.json", "dry_run": True})
    assert chosen.pods == Path("pods.json")
    assert chosen.kubeconfigs == ()


def test_a_journal_is_a_directory_or_files() -> None:
    message = refusal({"journal_directory": "/j", "journal_file": ("a",)})
    assert "--journal-directory" in message
    assert "--journal-file" in message


def test_a_stronger_choice_of_journal_replaces_a_weaker_one() -> None:
    files = settings({"journal_file": ("a",)}, {"JOURNAL_DIRECTORY": "/j"})
    assert (files.journal_directory, files.journal_files) == (None, (Path("a"),))
    directory = settings({"journal_directory": "/j"}, {"KIPTAIL_JOURNAL_FILE": "a"})
    assert (directory.journal_directory, directory.journal_files) == (Path("/j"), ())


def test_a_configuration_without_an_end_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    large = tmp_path / "large"
    large.write_bytes(b"#" * (1 << 20) + b"\n")
    for path in (pipe, Path("/dev/zero"), large, tmp_path):
        with pytest.raises(SettingsError, match=r"^--config: /.*: (it is no regular|it is larger|Is a dir)"):
            resolve({"config": str(path)}, {}, now_us=1)


def test_a_configuration_may_be_a_pipe_that_is_open_or_nothing() -> None:
    readable, writable = os.pipe()
    os.write(writable, b'prefix = ["a"]\n')
    os.close(writable)
    try:
        settings = resolve({"config": f"/dev/fd/{readable}"}, {}, now_us=1)
    finally:
        os.close(readable)
    assert [prefix.text for prefix in settings.prefixes] == ["a"]
    assert resolve({"config": "/dev/null"}, {}, now_us=1, need_prefix=False).prefixes == ()


def test_which_kubeconfig(tmp_path: Path, toml: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    second.touch()
    environ = {"KUBECONFIG": f"{first}:{second}"}
    assert settings(environ={"KUBECONFIG": str(first)}).kubeconfigs == (first,)
    assert settings(environ=environ).kubeconfigs == (first, second), "they are merged; what is missing is passed over"
    assert settings(environ={"KUBECONFIG": f":{first}::{second}:{first}"}).kubeconfigs == (first, second)
    assert settings(environ={"KUBECONFIG": "::"}).kubeconfigs == (Path("/etc/kiptail/kubeconfig"),)
    environ["CREDENTIALS_DIRECTORY"] = str(tmp_path)
    assert settings(environ=environ).kubeconfigs == (first, second), "the unit loads no credential of that name"
    (tmp_path / "kubeconfig").touch()
    assert settings(environ=environ).kubeconfigs == (tmp_path / "kubeconfig",)
    toml.write_text("kubeconfig = '/file'")
    assert settings(environ=environ, config=toml).kubeconfigs == (Path("/file"),)
    environ["KIPTAIL_KUBECONFIG"] = "/variable"
    assert settings(environ=environ, config=toml).kubeconfigs == (Path("/variable"),)
    assert settings({"kubeconfig": "/flag:x"}, environ, config=toml).kubeconfigs == (Path("/flag:x"),), (
        "that is one file"
    )


def test_which_state_directory() -> None:
    environ = {"STATE_DIRECTORY": "/var/lib/private/kiptail:/other"}
    assert settings(environ=environ).state_directory == Path("/var/lib/private/kiptail")
    assert settings({"state_directory": "/s"}, environ).state_directory == Path("/s")


# --- whatever comes -----------------------------------------------------------------------------------------

anything = st.text(st.characters(), max_size=60) | st.text("0123456789smhd-+:@.[]/TZ ", max_size=30)


@given(st.dictionaries(st.sampled_from([option.key for option in OPTIONS]), anything))
@example({"since": "@" + "9" * 400})
def test_any_text_in_flags_gives_settings_or_an_error_of_one_line(texts: dict[str, str]) -> None:
    repeatable = {option.key for option in OPTIONS if option.repeatable}
    _settings_or_error({key: (text,) if key in repeatable else text for key, text in texts.items()}, {})


VARIABLES = [
    *(option.variable for option in OPTIONS),
    *(option.peer.variable for option in OPTIONS if option.peer),
    "CREDENTIALS_DIRECTORY",
    "KUBECONFIG",
    "STATE_DIRECTORY",
]


@given(st.dictionaries(st.sampled_from(VARIABLES), anything))
def test_any_text_in_variables_gives_settings_or_an_error_of_one_line(environ: dict[str, str]) -> None:
    _settings_or_error({}, environ)


toml_values = st.recursive(
    st.booleans() | st.integers(-9, 9) | st.text(st.characters(exclude_categories=["C"], max_codepoint=0xFFFF)),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@given(
    st.dictionaries(st.sampled_from([option.name for option in OPTIONS] + ["prefixes"]), toml_values),
    st.binary(max_size=20),
)
def test_any_file_gives_settings_or_an_error_of_one_line(
    tmp_path_factory: pytest.TempPathFactory, table: dict[str, object], junk: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    for content in ("\n".join(f"{key} = {_toml(value)}" for key, value in table.items()).encode(), junk):
        file.write_bytes(content)
        _settings_or_error({"config": str(file)}, {})


def _toml(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value).lower()


def _settings_or_error(flags: dict[str, object], environ: dict[str, str]) -> None:
    try:
        chosen = resolve({"prefix": ("p:",)} | flags, environ, now_us=NOW_US, default_config=NOWHERE)
    except SettingsError as error:
        assert str(error).isprintable()  # noqa: PT017 - both outcomes are right
    else:
        assert chosen.prefixes


# --- the table ----------------------------------------------------------------------------------------------


def test_the_table_holds_every_option_once() -> None:
    named = [value for value in vars(options).values() if isinstance(value, Option)]
    assert {option.name for option in named} == {option.name for option in OPTIONS}
    assert len({option.name for option in OPTIONS}) == len(OPTIONS) == len(named)


def test_every_setting_has_an_option() -> None:
    spelled = {
        "prefixes": "prefix",
        "profiles": "profile",
        "journal_files": "journal_file",
        "kubeconfigs": "kubeconfig",
        "since_us": "since",
        "follow": "no_follow",
    }
    spelled |= {
        "pod_cidrs": "pod_cidr",
        "expire_after_s": "expire_after",
        "repeat_interval_s": "repeat_interval",
        "give_up_after_s": "give_up_after",
        "budget_window_s": "budget_window",
    }
    keys = {spelled.get(field.name, field.name) for field in fields(Settings)}
    # One setting of two options.
    assert keys - {"nflog"} == {option.key for option in OPTIONS} - {"config", "nflog_group", "ulogd_unit"}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_explains_itself(option: Option[object]) -> None:
    assert option.help.endswith(".")
    assert option.switch or option.metavar
    assert option.default is None or option.convert(option.default) is not NotImplemented


def test_the_table_makes_a_command_line() -> None:
    seen: list[Settings] = []

    def run(**flags: object) -> None:
        seen.append(resolve(flags, {}, now_us=NOW_US, default_config=NOWHERE))

    command = click.Command("kiptail", callback=run)
    for option in OPTIONS:
        command.params.append(
            click.Option(
                [option.flag, option.key],
                is_flag=option.switch or None,
                multiple=option.repeatable,
                metavar=option.metavar or None,
                help=option.help_text,
            )
        )
    runner = CliRunner()
    words = ["--prefix", "a b", "--prefix", "c", "--since", "-10m", "--no-follow", "--log-level", "debug"]
    assert runner.invoke(command, words, catch_exceptions=False).exit_code == 0
    assert [prefix.text for prefix in seen[0].prefixes] == ["a b", "c"]
    assert seen[0].since_us == NOW_US - 600_000_000
    assert (seen[0].follow, seen[0].log_level, seen[0].log_drops) == (False, "debug", False)
    assert "[default: 2m]" in runner.invoke(command, ["--help"]).output
