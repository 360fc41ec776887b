"""What the project promises about itself and no module's test can see."""

from __future__ import annotations

import ast
import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kiptail.config.options import OPTIONS
from kiptail.daemon.scrapes import CONNECTIONS, SPARE_DESCRIPTORS
from tests.system import record

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "kiptail"
#: Modules that decide and never act: time, files and the network come in as values.
PURE = (
    "addresses",
    "admin/example_rules",
    "admin/manifests",
    "check/facts",
    "check/findings/calico",
    "check/findings/cluster",
    "check/findings/configuration",
    "check/findings/host",
    "check/findings/prefixes",
    "check/findings/proposal",
    "check/findings/rules",
    "check/findings/unconfigured",
    "check/findings/wording",
    "check/firewall/combined",
    "check/firewall/hooks",
    "check/firewall/iptables",
    "check/firewall/iptables_options",
    "check/firewall/known",
    "check/firewall/log_rules",
    "check/firewall/nft_matches",
    "check/firewall/nftables",
    "check/firewall/rulebook",
    "check/firewall/rulesets",
    "check/firewall/targets",
    "clock/trouble",
    "config/options",
    "config/values",
    "credentials/identity",
    "credentials/tokens",
    "drops/changes",
    "drops/owned",
    "drops/questions",
    "drops/row",
    "drops/sentence",
    "drops/table",
    "drops/wanted",
    "events/annotation",
    "events/endpoint",
    "events/event",
    "events/schedule",
    "events/tally",
    "events/why",
    "flows/budget",
    "flows/flow",
    "flows/known_lines",
    "flows/ledger",
    "journal/entry",
    "journal/extent",
    "journal/position",
    "journal/source_clock",
    "kube/rights",
    "names/unnamed",
    "netfilter/parser",
    "netfilter/prefixes",
    "netfilter/protocols",
    "pods/ownership",
    "pods/pod",
    "pods/ranges",
    "pods/remote",
    "pods/stats",
    "pods/traits",
    "pods/workload",
    "policies/cluster",
    "policies/denial",
    "policies/ends",
    "policies/evaluate",
    "policies/explanation",
    "policies/manifest",
    "policies/misses",
    "policies/opened",
    "policies/policy",
    "policies/selector",
    "policies/suggest",
    "policies/words",
    "policies/workload",
    "report/as_text",
    "report/ends",
    "report/moments",
    "report/records",
    "report/summary",
    "report/tally",
    "report/timeline",
    "report/view",
)
IMPURE_IMPORTS = {
    "asyncio",
    "http",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "queue",
    "random",
    "secrets",
    "select",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib.request",
}
#: Names of the above that do no I/O.
HARMLESS = {
    ("addresses", "socket"),  # inet_pton, inet_ntop and inet_aton
    ("config/values", "os"),  # fsencode
    ("config/values", "pathlib"),  # paths as values
    ("config/options", "pathlib"),
    ("report/records", "io"),  # StringIO
}
CLOCKS = {"now", "today", "utcnow"}
IO_NAMES = {"open", "print", "input", "exec", "eval"}
IO_METHODS = {"read_text", "write_text", "read_bytes", "write_bytes", "exists", "stat", "getenv"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    """The name of a module or package."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_reach_for_no_clock_file_or_network(name: str) -> None:
    tree = ast.parse((PACKAGE / f"{name}.py").read_text())
    harmful = IMPURE_IMPORTS - {module for owner, module in HARMLESS if owner == name}
    assert not imported(tree) & harmful
    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    methods = {function.attr for function in called if isinstance(function, ast.Attribute)}
    functions = {function.id for function in called if isinstance(function, ast.Name)}
    assert not methods & (CLOCKS | IO_METHODS)
    assert not functions & IO_NAMES


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert docstring.split("\n")[0].strip()
    assert path.stem not in {"util", "utils", "helpers", "common"}


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_no_module_is_too_long_to_be_read_at_one_go(path: Path) -> None:
    # The table of options is as long as there are options.
    assert len(path.read_text().splitlines()) <= 300 or path == PACKAGE / "config" / "options.py"


def methods(tree: ast.ClassDef) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def attributes(tree: ast.ClassDef) -> set[str]:
    """The fields that the class declares, and what its methods assign to ``self``."""
    declared = (node.target for node in tree.body if isinstance(node, ast.AnnAssign))
    nodes = (node for method in methods(tree) for node in ast.walk(method) if isinstance(node, ast.Attribute))
    assigned = (node for node in nodes if isinstance(node.ctx, ast.Store))
    return {target.id for target in declared if isinstance(target, ast.Name)} | {
        node.attr for node in assigned if isinstance(node.value, ast.Name) and node.value.id == "self"
    }


def comment_above(tree: ast.ClassDef, lines: list[str]) -> str:
    """The first line of the comment that ends where the class, or its decorators, begin."""
    first = at = min(node.lineno for node in (tree, *tree.decorator_list)) - 1
    while at and lines[at - 1].lstrip().startswith("#"):
        at -= 1
    return lines[at].strip() if at < first else ""


def beyond(tree: ast.ClassDef, *, most_methods: int = 15, most_attributes: int = 12) -> str:
    """What a class has too many of, as the comment above it begins that says why; "" when it has not."""
    found = []
    if len(methods(tree)) > most_methods:
        found.append(f"{most_methods} methods")
    if len(attributes(tree)) > most_attributes:
        found.append(f"{most_attributes} attributes")
    return f"# More than {' and '.join(found)}: " if found else ""


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_a_class_has_one_job_or_says_why_it_is_large(path: Path) -> None:
    """Above a class with more than 15 methods or 12 attributes stands why, and above no other."""
    text = path.read_text()
    for tree in ast.walk(ast.parse(text)):
        if isinstance(tree, ast.ClassDef):
            comment, large = comment_above(tree, text.splitlines()), beyond(tree)
            says = comment.startswith(large) if large else not comment.startswith("# More than ")
            assert says, f"{tree.name}: {large or 'within the bounds'}, but the comment is {comment!r}"


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        pytest.param("", "", id="within the bounds"),
        pytest.param("    c: int\n", "# More than 2 attributes: ", id="a field"),
        pytest.param(
            "    def f(self): self.c, self.d = 1, 2\n", "# More than 2 attributes: ", id="assigned in a method"
        ),
        pytest.param("    def f(self): pass\n    async def g(self): pass\n", "# More than 1 methods: ", id="methods"),
        pytest.param(
            "    def f(self): self.c = 1\n    def g(self): pass\n",
            "# More than 1 methods and 2 attributes: ",
            id="both",
        ),
    ],
)
def test_what_is_large_is_counted(more: str, wanted: str) -> None:
    source = f"# Why.\n# And more.\n@final\nclass C:\n    a: int\n    b: int = 1\n{more}"
    (tree,) = ast.parse(source).body
    assert isinstance(tree, ast.ClassDef)
    assert beyond(tree, most_methods=1, most_attributes=2) == wanted
    assert comment_above(tree, source.splitlines()) == "# Why."


def test_importing_every_module_starts_nothing() -> None:
    """No thread, handler or metric appears before somebody asks for it."""
    names = [dotted(path) for path in modules() if path.stem != "__main__"]
    assert len(names) > 130, "nothing is passed over"
    code = (
        "import importlib, logging, signal, threading\n"
        f"for name in {names}: importlib.import_module(name)\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
        "assert not logging.getLogger('kiptail').handlers\n"
        "assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_unit_names_what_the_program_does() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "systemd" / "kiptail.service")
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert service["ExecStart"] == "/usr/bin/kiptail"
    assert service["LoadCredential"] == "kubeconfig:/etc/kiptail/kubeconfig"
    assert service["StateDirectory"] == "kiptail"
    assert service["SupplementaryGroups"] == "systemd-journal"
    assert int(service["LimitNOFILE"]) > 7_168 + CONNECTIONS + SPARE_DESCRIPTORS  # sd-journal's JOURNAL_FILES_MAX
    assert unit["Unit"]["ConditionPathExists"] == "/etc/kiptail/kubeconfig"


def test_the_rights_are_those_the_program_uses_and_no_more() -> None:
    documents = list(yaml.safe_load_all((ROOT / "packaging" / "rbac.yaml").read_text()))
    by_kind = {document["kind"]: document for document in documents}
    assert sorted(by_kind) == ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "ServiceAccount"]
    rules = {
        (group, resource): set(rule["verbs"])
        for rule in by_kind["ClusterRole"]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    needed = {("", "pods"): {"list", "watch"}, ("", "events"): {"create", "patch"}}
    names = {("", "nodes"): {"list"}, ("", "services"): {"list"}}
    policies = {("networking.k8s.io", "networkpolicies"): {"list"}, ("", "namespaces"): {"get"}}
    assert rules == needed | names | policies
    assert by_kind["Role"]["rules"] == [
        {"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": ["kiptail"], "verbs": ["create"]}
    ]
    assert by_kind["RoleBinding"]["roleRef"]["name"] == by_kind["Role"]["metadata"]["name"]
    assert by_kind["RoleBinding"]["subjects"] == by_kind["ClusterRoleBinding"]["subjects"]
    binding, account = by_kind["ClusterRoleBinding"], by_kind["ServiceAccount"]
    assert binding["roleRef"]["name"] == by_kind["ClusterRole"]["metadata"]["name"]
    assert binding["subjects"] == [
        {
            "kind": "ServiceAccount",
            "name": account["metadata"]["name"],
            "namespace": account["metadata"]["namespace"],
        }
    ]


def test_every_target_of_the_makefile_is_explained() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.findall(r"^\.PHONY:(.*)$", makefile, re.MULTILINE)[0].split())
    explained = dict(re.findall(r"^([a-z-]+):.*## (.+)$", makefile, re.MULTILINE))
    assert phony == set(explained)


def test_the_changelog_has_this_version() -> None:
    version = re.search(r'__version__ = "(.+)"', (PACKAGE / "__init__.py").read_text())
    assert version is not None
    assert f"## [{version[1]}]" in (ROOT / "CHANGELOG.md").read_text()
    assert (ROOT / "packaging/debian/changelog").read_text().startswith(f"kiptail ({version[1]}) ")
    assert re.search(rf"^Version: +{re.escape(version[1])}$", (ROOT / "packaging/rpm/kiptail.spec").read_text(), re.M)


def test_systemd_accepts_the_units_and_finds_them_confined() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run([ROOT / "tools" / "units"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_migration_names_every_variable_that_is_understood() -> None:
    rows = [line for line in (ROOT / "docs" / "migrating.md").read_text().splitlines() if line.startswith("| `")]
    for option in OPTIONS:
        if option.peer is not None:
            assert any(f"`{option.peer.variable}` | `{option.flag}`" in row for row in rows), option.peer.variable


def test_the_readme_names_every_option() -> None:
    readme = (ROOT / "README.md").read_text()
    for option in OPTIONS:
        if option.name != "config":
            assert f"`{option.flag}" in readme, option.flag


def test_the_readme_shows_what_the_recorder_typed() -> None:
    recorded = (ROOT / "README.md").read_text().split(record.BEGIN)[1].split(record.END)[0]
    typed = [line[2:] for line in recorded.splitlines() if line.startswith(("# ", "$ "))]
    assert typed == [*record.INSTALL, *record.LOOK, *record.DESCRIBE]
    assert "Warning  PacketDrop" in recorded


def test_each_picture_of_the_documents_is_there_small_and_described() -> None:
    shown: set[Path] = set()
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        text = document.read_text()
        pictures = re.findall(r"!\[([^\]]*)\]\(([^)]*)\)", text)
        pictures += [pair[::-1] for pair in re.findall(r'<img src="([^"]*)"[^>]* alt="([^"]*)">', text)]
        assert len(pictures) == text.count("![") + text.count("<img")
        for described, link in pictures:
            picture = (document.parent / link).resolve()
            assert len(described) > 20
            assert picture.read_bytes().startswith(b"\x89PNG")
            assert picture.stat().st_size < 200_000
            shown.add(picture)
    assert shown == set((ROOT / "docs/pictures").iterdir())


def test_the_architecture_names_every_module() -> None:
    rooms = (ROOT / "docs" / "architecture.md").read_text().split("## Rooms")[1].split("## ")[0]
    named = {name for row in rooms.splitlines() if row.startswith("| ") for name in re.findall(r"`(\w+)`", row)}
    assert {path.stem for path in modules() if not path.stem.startswith("__")} - named == set()
