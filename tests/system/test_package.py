"""From the installation to the purge, as an administrator sees it."""

from __future__ import annotations

import os
import re

import pytest

from tests.system.conftest import Node

pytestmark = [
    pytest.mark.system,
    # The first one makes the packages and the root, and waits for others who use the kernel log.
    pytest.mark.timeout(3_000),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: debootstrap, systemd-nspawn and network namespaces"),
]

#: Every unit of the package.
UNITS = ("kiptail.service", "kiptail-credentials.path", "kiptail-credentials.service")


def test_an_installed_kiptail_neither_runs_nor_will(node: Node) -> None:
    node.install()
    told = node.machine.show("kiptail", "ActiveState", "UnitFileState", "LoadState", "ConditionTimestampMonotonic")
    assert told == {
        "ActiveState": "inactive",
        "UnitFileState": "disabled",
        "LoadState": "loaded",
        "ConditionTimestampMonotonic": "0",  # nobody has even tried
    }


def test_without_a_kubeconfig_it_waits_and_starts_when_one_arrives(node: Node) -> None:
    node.install()
    node.machine.run("systemctl", "enable", "--now", "kiptail")
    status = node.machine.try_run("systemctl", "status", "kiptail").stdout
    assert "ConditionPathExists=/etc/kiptail/kubeconfig was not met" in status
    node.configure()
    node.wait_until_it_works()


def test_without_a_prefix_it_stays_failed_and_says_what_to_do(node: Node) -> None:
    node.install()
    node.give_kubeconfig()
    assert node.machine.try_run("systemctl", "enable", "--now", "kiptail").returncode != 0
    told = node.machine.show("kiptail", "ActiveState", "ExecMainStatus", "NRestarts")
    assert told == {"ActiveState": "failed", "ExecMainStatus": "2", "NRestarts": "0"}
    status = node.machine.try_run("systemctl", "status", "kiptail").stdout
    assert "no log prefix is configured" in status


def test_a_dropped_packet_becomes_an_event_and_status_tells(node: Node) -> None:
    node.run()
    node.drop(8080, count=3)
    node.wait_for_events(8080, 3)
    told = re.compile(r'Status: "3 drops counted, 0 Events to write')
    node.machine.until(
        lambda: told.search(node.machine.run("systemctl", "status", "--no-pager", "kiptail")), "the STATUS text"
    )


def test_journalctl_finds_a_pods_flows_and_explains_them(node: Node) -> None:
    node.run()
    node.drop(8087)
    node.wait_for_events(8087)
    find = ("journalctl", "--no-pager", "-x", "-u", "kiptail", "KIPTAIL_POD=web-0", "KIPTAIL_PORT=8087")
    found = node.machine.run(*find)
    assert "Flow placed: team-a/web-0: Packet dropped when receiving traffic" in found
    assert "Subject: Packets of pod team-a/web-0 do not arrive" in found
    node.purge()
    assert "Subject:" not in node.machine.run(*find)


def test_it_runs_confined_and_its_state_is_its_own(node: Node) -> None:
    node.run()
    status = (node.machine.files / f"proc/{node.main_pid()}/status").read_text()
    uid = re.search(r"^Uid:\t(\d+)", status, re.MULTILINE)
    assert uid is not None
    assert int(uid[1]) >= 61_184, "a dynamic user's"
    assert re.search(r"^CapBnd:\t0{16}$", status, re.MULTILINE)
    assert node.machine.run("stat", "-c", "%a", "/var/lib/private/kiptail").strip() == "700"
    limits = node.machine.show("kiptail", "MemoryHigh", "MemoryMax")
    assert limits == {"MemoryHigh": str(512 << 20), "MemoryMax": str(768 << 20)}


def test_a_restart_goes_on_where_it_stopped(node: Node) -> None:
    node.run()
    node.drop(8081)
    node.wait_for_events(8081)
    node.machine.run("systemctl", "stop", "kiptail")
    node.drop(8081, count=4)
    node.machine.run("systemctl", "start", "kiptail")
    node.wait_for_events(8081, 5)


def test_one_that_is_killed_starts_again_and_goes_on(node: Node) -> None:
    node.run()
    node.drop(8082)
    node.wait_for_events(8082)
    pid = node.main_pid()
    node.machine.run("kill", "-9", str(pid))
    node.drop(8082, count=2)
    node.machine.until(node.restarted_since(pid), "systemd starts it again")
    assert node.machine.show("kiptail", "NRestarts") == {"NRestarts": "1"}
    node.wait_for_events(8082, 3)


def test_a_replaced_kubeconfig_is_taken_up_and_one_that_was_stopped_stays_so(node: Node) -> None:
    node.run()
    for _ in range(2):  # the watch is there again after it has done its work
        pid = node.main_pid()
        node.give_kubeconfig()
        node.machine.until(node.restarted_since(pid), "it starts again with the new one")
        node.machine.until(
            lambda: node.machine.active("kiptail-credentials.service") == "inactive", "the watch has done its work"
        )
    node.drop(8083)
    node.wait_for_events(8083)
    node.machine.run("systemctl", "stop", "kiptail")
    node.give_kubeconfig()
    assert node.machine.active("kiptail-credentials.path") == "inactive"
    assert node.machine.active("kiptail-credentials.service") == "inactive"


def test_an_upgrade_restarts_a_running_one_and_keeps_state_and_configuration(node: Node) -> None:
    node.run()
    node.drop(8084)
    node.wait_for_events(8084)
    config = (node.machine.files / "etc/kiptail/kiptail.toml").read_text()
    pid = node.main_pid()
    node.machine.install(node.packages.next)
    assert node.version() == node.packages.next_version
    assert node.restarted_since(pid)()
    assert node.machine.run("kiptail", "--version").split() == ["kiptail", node.packages.next_version]
    assert (node.machine.files / "etc/kiptail/kiptail.toml").read_text() == config
    assert node.machine.show("kiptail", "UnitFileState") == {"UnitFileState": "enabled"}
    node.drop(8084)
    node.wait_for_events(8084, 2)  # the same Event: the state is the same


def test_an_upgrade_starts_and_enables_nothing(node: Node) -> None:
    node.install()
    node.configure()
    node.machine.install(node.packages.next)
    told = node.machine.show("kiptail", "ActiveState", "UnitFileState")
    assert told == {"ActiveState": "inactive", "UnitFileState": "disabled"}
    assert node.machine.active("kiptail-credentials.path") == "inactive"


def test_a_removal_stops_it_and_keeps_what_is_the_administrators(node: Node) -> None:
    node.run()
    node.machine.run("apt-get", "remove", "--yes", "kiptail")
    assert {node.machine.active(unit) for unit in UNITS} == {"inactive"}
    files = node.machine.files
    assert (files / "etc/kiptail/kubeconfig").exists()
    assert (files / "etc/kiptail/kiptail.toml").exists()
    assert (files / "var/lib/private/kiptail/state.sqlite").exists()


def test_a_purge_leaves_nothing(node: Node) -> None:
    node.run()
    node.put("etc/default/kiptail", "KIPTAIL_LOG_LEVEL=debug\n")
    node.machine.run("apt-get", "purge", "--yes", "kiptail")
    assert {node.machine.active(unit) for unit in UNITS} == {"inactive"}
    left = node.machine.run("find", "/etc", "/var/lib", "/usr", "/run", "-xdev", "-name", "*kiptail*").split()
    assert left == []


def test_the_kubelets_credential_works_and_its_rotation_is_taken_up(node: Node) -> None:
    node.run()
    pki = node.machine.files / "var/lib/kubelet/pki"
    node.put("var/lib/kubelet/pki/kubelet-client-1.pem", node.issue_kubelet_certificate())
    # As kubelet has it, which names its own host's paths.
    current = pki / "kubelet-client-current.pem"
    current.symlink_to("/var/lib/kubelet/pki/kubelet-client-1.pem")
    pki.parent.chmod(0o750)
    (pki.parent / "pods").mkdir()
    node.put("etc/kubernetes/kubelet.conf", node.kubelet_conf())
    node.machine.run("rm", "/etc/kiptail/kubeconfig")
    node.machine.run("cp", "-r", "/usr/share/kiptail/kubelet/.", "/etc/systemd/system/")
    node.machine.run("systemctl", "daemon-reload")
    node.machine.run("systemctl", "restart", "kiptail")
    assert "as node worker-3" in node.machine.journal("kiptail")
    node.drop(8085)
    node.wait_for_events(8085)
    inside = node.machine.run("nsenter", "-m", "-t", str(node.main_pid()), "find", "/var/lib/kubelet", "-type", "f")
    assert inside.split() == ["/var/lib/kubelet/pki/kubelet-client-current.pem"]

    pid = node.main_pid()
    node.put("var/lib/kubelet/pki/kubelet-client-2.pem", node.issue_kubelet_certificate())
    updated = pki / "kubelet-client-updated.pem"
    updated.symlink_to("/var/lib/kubelet/pki/kubelet-client-2.pem")
    updated.replace(current)
    node.machine.until(node.restarted_since(pid), "it starts again with the new certificate")
    node.drop(8085)
    node.wait_for_events(8085, 2)


@pytest.mark.parametrize("example", ["", "kubelet", "addresses"])
def test_systemd_finds_nothing_wrong_with_the_units(node: Node, example: str) -> None:
    node.install()
    if example:
        node.machine.run("cp", "-r", f"/usr/share/kiptail/{example}/.", "/etc/systemd/system/")
        node.machine.run("systemctl", "daemon-reload")
    done = node.machine.try_run("systemd-analyze", "verify", *UNITS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    node.machine.run("systemd-analyze", "security", "--no-pager", "--threshold=12", "kiptail.service")
    node.machine.run("systemd-analyze", "security", "--no-pager", "--threshold=25", "kiptail-ulogd@100.service")


def test_the_manual_pages_render(node: Node) -> None:
    node.install()
    for page, words in {
        "kiptail": ("--pod-cidr RANGE", "kiptail parse", "EXIT STATUS", "KUBE_API_SERVER"),
        "kiptail.toml": ("flows-per-address = NUMBER", "[[prefixes]]"),
    }.items():
        done = node.machine.try_run("man", "--warnings", page)
        assert done.stderr == ""
        assert [word for word in words if word not in done.stdout] == []


#: What each shell does when <TAB> is pressed after `kiptail --pod-`.
COMPLETE = {
    "bash": """
        source /usr/share/bash-completion/bash_completion
        _completion_loader kiptail
        COMP_WORDS=(kiptail --pod-) COMP_CWORD=1 COMP_LINE='kiptail --pod-' COMP_POINT=14
        $(complete -p kiptail | sed -E 's/.* -F (\\S+) .*/\\1/') kiptail
        printf '%s\\n' "${COMPREPLY[@]}"
    """,
    "fish": "complete --do-complete 'kiptail --pod-'",
    # zsh completes only on a terminal. What is typed shows as well, so that it has to differ from what is waited for.
    "zsh": """
        zmodload zsh/zpty
        zpty z zsh -f -i
        zpty -w z 'PS1=; autoload -Uz compinit; compinit -u; stty columns 200'
        zpty -w z 'bindkey "^I" complete-word; print rea""dy'
        zpty -r z seen '*ready*'
        zpty -n -w z $'kiptail --pod-\\t\\t'
        zpty -r z seen '*--pod-identifier-label*'
        sleep 0.5
        while zpty -r -t z more; do seen+=$more; done
        print -r -- $seen | grep -oE -- '--pod-[a-z-]+'
    """,
}


@pytest.mark.parametrize("shell", COMPLETE)
def test_the_shell_completes_options(node: Node, shell: str) -> None:
    node.install()
    told = node.machine.run(shell, "-c", COMPLETE[shell])
    names = {line.split("\t")[0] for line in told.splitlines()}  # fish shows the help, too
    assert names == {"--pod-index", "--pod-cidr", "--pod-identifier", "--pod-identifier-label"}


def test_kubectl_drops_is_completed(node: Node) -> None:
    """In a shell by its own name, and by that by which kubectl asks."""
    node.install()
    told = node.machine.run("fish", "-c", "complete --do-complete 'kubectl-drops --no'")
    assert told.split("\t")[0] == "--no-headers"
    option, directive = node.machine.run("kubectl_complete-drops", "--no").splitlines()
    assert (option.split("\t")[0], directive) == ("--no-headers", ":4")
