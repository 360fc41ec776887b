"""What counts in the journal: a rule's lines, and none of the kernel's other messages, whatever users have them say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.flows.known_lines import KnownLine, KnownLines
from kiptail.netfilter.parser import PacketDrop, Unparsed
from kiptail.netfilter.patterns import escaped
from kiptail.netfilter.prefixes import Prefixes, PrefixMatch, PrefixRule, Verdict
from kiptail.netfilter.reading import ULOGD, Logged, Untrusted, read
from tests.corpus import samples
from tests.corpus.printer import Printed, printed

SAMPLES = [sample for sample in samples() if sample.where.startswith(("netfilter.txt:", "published.txt:"))]
PART = (
    "IN=eth0 OUT=cali1 MAC= SRC=10.0.0.1 DST=10.0.0.2 LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF PROTO=TCP SPT=40000"
    " DPT=80 WINDOW=64240 RES=0x00 SYN URGP=0 "
)
LINE = f"calico-drop: {PART}"
PREFIXES = Prefixes([PrefixRule("calico-drop:", Verdict.DROP), PrefixRule("D", Verdict.DROP)])

#: Messages of the kernel with what users named: ``{}`` is a text of any length, ``{comm}`` the name of a process,
#: 15 bytes at most, ``{if}`` that of an interface, as long and without blanks and colons.
MESSAGES = [
    # x86, arm64, powerpc and s390: a process that is killed, and the file that it was in.
    "{comm}[4711]: segfault at 0 ip 00005506116b1d3 sp 0007ffd error 6 in {}[116b,55d06116b000+1000] likely on CPU 1",
    "{comm}[4711]: segfault at 0 ip 000055d06116b1d3 sp 00007ffd error 6 in {}[55d06116b000+1000]",
    "traps: {comm}[4711] general protection fault ip:55d06116b1d3 sp:7ffd error:0 in {}[55d06116b000+1000]",
    "traps: {comm}[4711] trap invalid opcode ip:55d06116b1d3 sp:7ffd error:0 in {}[55d06116b000+1000]",
    "{comm}[4711]: unhandled exception: DABT (lower EL), ESR 0x92000046, level 2 translation fault in {}[aaaa+1000]",
    "{comm}[4711]: bad frame in rt_sigreturn: (____ptrval____) nip 00 lr 00 in {}[1000+2000]",
    "{comm}[4711] bad frame in rt_sigreturn frame:00007ffd ip:55d0 sp:7ffd orax:ffffffffffffffff in {}[55d0+1000]",
    "{comm}[4711] vsyscall attempted with vsyscall=none ip:ffffffffff600000 cs:33 sp:7ffd ax:0 si:0 di:0",
    "{comm}: page allocation failure: order:0, mode:0x40cc0(GFP_KERNEL), nodemask=(null),cpuset={},mems_allowed=0",
    "{comm} (4711): Using mlock ulimits for SHM_HUGETLB is obsolete",
    "{comm}: {comm}: attempt to access beyond end of device",
    "{comm} invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
    "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset={},mems_allowed=0,oom_memcg=/{},task_memcg=/{},task={comm},pid=4711,uid=1000",
    "[   4711]  1000  4711     1234      100    45056        0             0 {comm}",
    "Memory cgroup out of memory: Killed process 4711 ({comm}) total-vm:1234kB, anon-rss:1kB, UID:1000 pgtables:44kB",
    "Memory cgroup stats for /{}:",
    "cgroup: fork rejected by pids controller in /{}",
    "process '{}' started with executable stack",
    "warning: `{comm}' uses wireless extensions which will stop working for Wi-Fi 7 hardware; use nl80211",
    "INFO: task {comm}:4711 blocked for more than 120 seconds.",
    "CPU: 1 PID: 4711 Comm: {comm} Not tainted 6.1.0-18-amd64 #1  Debian 6.1.76-1",
    # What mounting in a user namespace makes it quote, at its end or not.
    "overlayfs: failed to resolve '{}': -2",
    "overlayfs: failed to resolve '{}",
    "overlay: Unknown parameter '{}'",
    "tmpfs: Bad value for '{}'",
    "cgroup: Unknown subsys name '{}'",
    "fuse: unknown option \"{}\"",
    "UDF-fs: INFO Mounting volume '{}', timestamp 2026/11/25 10:00 (1000)",
    "EXT4-fs (loop0): Unrecognized mount option \"{}\" or missing value",
    # Interfaces of a user namespace, and devices.
    "{if}: renamed from {if}",
    "{if}: Caught tx_queue_len zero misconfig",
    "{if}: port 1({if}) entered disabled state",
    "device {if} entered promiscuous mode",
    "IPv6: ADDRCONF(NETDEV_CHANGE): {if}: link becomes ready",
    "batman_adv: {if}: Adding interface: {if}",
    "usb 1-1: Product: {}",
    "input: {} as /devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0/input/input7",
    "hid-generic 0003:046D:C31C.0001: input,hidraw0: USB HID v1.10 Keyboard [{}] on usb-0000:00:14.0-1/input0",
    "Bluetooth: hci0: {}",
    # Modules, and what audit says where nobody listens.
    "{}: loading out-of-tree module taints kernel.",
    "{}: module license 'x' taints kernel.",
    'audit: type=1400 audit(1800000000.123:4): apparmor="DENIED" operation="open" name="{}" pid=4711 comm="{comm}"',
    # One of a caller that gives its own text away.
    "{}",
]  # fmt: skip
MADE_UP = [LINE, f" {LINE}", f"\n{LINE}", f"x {LINE}", f"D {PART}", f"D{PART}", PART, f"] {LINE}", f"': {LINE}"]
COMMS = [
    "calico-drop: ",
    "calico-drop:",
    "D IN= OUT= ",
    "DIN= OUT=",
    "D IN=a OUT=b S",
    " calico-drop: ",
    "\ncalico-drop:\n",
]
INTERFACES = ["IN=", "IN=eth0", "OUT=cali1", "calico-drop", "D", "DIN=", "IN=D"]


def named(message: str, text: str, comm: str, interface: str) -> str:
    return message.replace("{comm}", comm).replace("{if}", interface).replace("{}", text)


def assert_no_drop(message: str) -> None:
    assert not isinstance(read(message, PREFIXES), Logged)
    for length in range(0, len(message), 7):
        found = read(message[:length], PREFIXES)
        assert not isinstance(found, Logged) or isinstance(found.packet, Unparsed)


class TestOtherMessages:
    @pytest.mark.parametrize("message", MESSAGES[:-1])
    def test_none_is_a_drop_nor_is_its_beginning(self, message: str) -> None:
        """The kernel cuts what is longer than a kilobyte, so that any quoted text can be a message's last."""
        for text in MADE_UP:
            # A module's name cannot hold a blank: no process may give it one that is loaded.
            given_text = text.replace(" ", "_") if message.startswith("{}") else text
            for comm in COMMS:
                for interface in INTERFACES:
                    if "{if}" in message or interface == INTERFACES[0]:
                        assert_no_drop(named(message, given_text, comm, interface))

    def test_only_a_text_that_is_the_whole_message_could_be_one(self) -> None:
        """What the other tests go by: the text that they quote is a drop when nothing stands around it."""
        assert isinstance(read(named(MESSAGES[-1], LINE, "", ""), PREFIXES), Logged)

    @pytest.mark.parametrize(
        "message",
        [
            pytest.param(
                "calico-drop: [4711]: segfault at 0 ip 000055d06116b1d3 sp 00007ffd error 6 in "
                "IN=eth0 OUT=cali1 SRC=10.0.0.1 DST=10.0.0.2 LEN=60 URGP=0 [116b,55d06116b000+1000] likely on CPU 1",
                id="a crash",
            ),
            pytest.param(f"overlayfs: failed to resolve ' {LINE}': -2", id="an overlay"),
            pytest.param(f"overlayfs: failed to resolve '{LINE}': -2", id="without a blank before the prefix"),
            pytest.param(f"overlayfs: failed to resolve ' {LINE}", id="cut by the kernel"),
            pytest.param(f"{LINE}': -2", id="something behind it"),
            pytest.param(f"x {LINE}", id="something before it"),
            pytest.param(f"calico-drop: x {PART}", id="something between"),
            pytest.param("calico-drop: IN=a OUT=b: link becomes ready", id="no packet"),
        ],
    )
    def test_those_with_a_wanted_prefix_are_not_trusted(self, message: str) -> None:
        assert isinstance(read(message, PREFIXES), Untrusted)

    @pytest.mark.parametrize(
        "message",
        [
            pytest.param(f"other: {PART}", id="another prefix"),
            pytest.param(f"no-calico-drop: {PART}", id="another prefix that holds this one"),
            pytest.param("calico-drop: is loaded", id="no packet at all"),
            pytest.param("usb 1-1: new high-speed USB device number 2 using xhci_hcd", id="something else"),
            pytest.param("", id="nothing"),
        ],
    )
    def test_those_of_others_are_nothing(self, message: str) -> None:
        assert read(message, PREFIXES) is None

    @given(st.text(), st.text(), st.integers(0, 20))
    def test_nothing_may_stand_around_a_line(self, before: str, behind: str, cut: int) -> None:
        for message in (f"{before}| {LINE}", f"{LINE}|{behind}", f"{LINE[: len(LINE) - cut]}|{behind}"):
            assert not isinstance(read(message, PREFIXES), Logged)


class TestRulesLines:
    @pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.where)
    def test_all_that_were_seen_count(self, sample) -> None:
        found = read(sample.line, Prefixes([PrefixRule(escaped(sample.expected["prefix"]), Verdict.DROP)]))
        assert isinstance(found, Logged)
        assert isinstance(found.packet, Unparsed if "error" in sample.expected else PacketDrop)

    @given(printed())
    def test_all_that_the_printer_writes_count(self, sample: Printed) -> None:
        prefixes = Prefixes([PrefixRule(escaped(sample.drop.prefix or "none"), Verdict.DROP)])
        found = read(sample.line, prefixes)
        if sample.drop.prefix:
            assert found == Logged(PrefixMatch(sample.drop.prefix, Verdict.DROP, limited=False), sample.drop)
        else:
            assert not isinstance(found, Logged)

    @given(printed(), st.data())
    def test_one_that_is_cut_says_what_is_left_of_it(self, sample: Printed, data: st.DataObject) -> None:
        cut = sample.line[: data.draw(st.integers(sample.cut_from, len(sample.line)))]
        found = read(cut, Prefixes([PrefixRule(escaped(sample.drop.prefix or "none"), Verdict.DROP)]))
        if isinstance(found, Logged) and isinstance(found.packet, PacketDrop):
            assert found.packet[:5] == sample.drop[:5]

    def test_the_fast_reader_says_the_same_of_all(self) -> None:
        known = KnownLines(PREFIXES)
        assert isinstance(known.wanted(LINE.encode()), KnownLine)
        for message in (
            f"x {LINE}",
            f"{LINE}x",
            f"{LINE}': -2",
            LINE.replace("SYN", "SYN ' SYN"),
            f"{LINE}[1000+1000]",
        ):
            assert known.wanted(message.encode()) is True, "it is left to the thorough reader"


class TestUlogd:
    """Lines of NFLOG rules."""

    PREFIXES = Prefixes(
        [PrefixRule("DROP by policy {policy}", Verdict.LOG)], empty=PrefixRule("NFLOG group 100", Verdict.REJECT)
    )
    LINES = tuple(sample.line for sample in samples("ulogd"))

    def test_each_is_read_with_its_prefix_or_without(self) -> None:
        named, empty = (read(line, self.PREFIXES, ULOGD) for line in self.LINES[:2])
        assert isinstance(named, Logged)
        assert isinstance(empty, Logged)
        assert (named.prefix.policy, named.prefix.verdict) == ("default/test-network-policy", Verdict.LOG)
        assert (empty.prefix.prefix, empty.prefix.verdict) == ("NFLOG group 100", Verdict.REJECT)

    def test_a_policy_that_is_cut_at_the_end_of_a_prefix(self) -> None:
        line = self.LINES[0].replace("default/test-network-policy", "x" * 48)
        logged = read(line, Prefixes([PrefixRule("DROP by policy {policy}:")]), ULOGD)
        assert isinstance(logged, Logged)
        assert logged.prefix.policy == "x" * 48 + "…"

    @pytest.mark.parametrize("line", [line for line in LINES if " TOS=" in line], ids=lambda line: line[:40])
    def test_the_kernel_wrote_none_of_them(self, line: str) -> None:
        assert not isinstance(read(line, Prefixes([PrefixRule("drop:")], empty=PrefixRule("x"))), Logged)

    def test_arp_is_no_packet_between_pods(self) -> None:
        line = "drop: IN=a OUT=b MAC=01:02 SRC=10.0.0.1 DST=10.0.0.2 PROTO=ARP REQUEST MARK=0x0"
        logged = read(line, Prefixes([PrefixRule("drop:")]), ULOGD)
        assert isinstance(logged, Logged)
        assert logged.packet == Unparsed("ARP, not an IP packet", "drop:")
