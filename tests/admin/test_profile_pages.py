"""What `kiptail profiles` prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from kiptail.admin.profile_pages import explained, listed, reading_of
from kiptail.config.profile import Profile, Sample, load, profile_files
from kiptail.netfilter.prefixes import Prefixes, PrefixRule, Verdict

NOWHERE = Path("/nonexistent")
SHIPPED = [load(name, "", NOWHERE) for name in profile_files(NOWHERE)]
SAMPLES = [(profile, sample) for profile in SHIPPED for sample in profile.samples]
HOSTILE = "x\x1b[2J\n\r\x9b31m\u202e"


@pytest.mark.parametrize(
    ("profile", "sample"), SAMPLES, ids=[f"{profile.name} {sample.text[:40]}" for profile, sample in SAMPLES]
)
def test_the_samples_of_shipped_profiles(profile: Profile, sample: Sample) -> None:
    assert reading_of(sample, Prefixes(profile.prefixes)) == sample.reading


@pytest.mark.parametrize("profile", SHIPPED, ids=lambda profile: profile.name)
def test_each_shipped_prefix_has_a_sample(profile: Profile) -> None:
    prefixes = Prefixes(profile.prefixes)
    used = {reading_of(sample, prefixes)["prefix"] for sample in profile.samples}
    assert {name for name, _ in prefixes.rules} == used
    assert explained(profile)[1]


def test_the_list() -> None:
    lines = listed(SHIPPED).splitlines()
    assert [line.split()[0] for line in lines] == [profile.name for profile in SHIPPED]
    assert all(line.endswith("  shipped") for line in lines)
    assert listed([Profile("ours", "Ours\nmore", "", (), (), Path("/p/ours.toml"))]) == "ours  Ours  /p/ours.toml\n"
    assert listed([]) == ""


def test_a_page() -> None:
    profile = Profile(
        name="ours",
        description="Our firewall\nWhat it says.",
        applies_to="our\nrelease",
        prefixes=(
            PrefixRule("[gate-{rule}-{verdict}]", verdicts=(("R", Verdict.REJECT),)),
            PrefixRule("a {policy}", Verdict.LOG, limited=True, cut_at=48),
        ),
        samples=(
            Sample("[gate-1-R]", False, {"prefix": "[gate-{rule}-{verdict}]", "verdict": "reject", "rule": "1"}),
            Sample("kernel: [gate-1-drop]IN=a OUT=b SRC=10.0.0.1 DST=10.0.0.2 PROTO=47", True, {"verdict": "reject"}),
            Sample("b ", False, {"verdict": "log"}),
            Sample("[gate-1-X]", False, {}),
        ),
        file=None,
    )
    text, well = explained(profile)
    assert not well
    assert text == (
        "ours (shipped)\n\nOur firewall\nWhat it says.\n\nApplies to: our release\n\nPrefixes:\n"
        "  [gate-{rule}-{verdict}]  → what the line says (R is reject)\n"
        "  a {policy}  → log, logged at a limited rate, cut at 48 characters\n\nSamples:\n"
        "  [gate-1-R]\n"
        '    {"prefix": "[gate-{rule}-{verdict}]", "verdict": "reject", "rule": "1"}\n'
        "  kernel: [gate-1-drop]IN=a OUT=b SRC=10.0.0.1 DST=10.0.0.2 PROTO=47\n"
        '    {"prefix": "[gate-{rule}-{verdict}]", "verdict": "drop", "rule": "1"}\n'
        '    the profile says otherwise: {"verdict": "reject"}\n'
        "  b\n"
        "    is not read: no prefix of the profile is in it\n"
        '    the profile says otherwise: {"verdict": "log"}\n'
        "  [gate-1-X]\n"
        '    {"error": "the verdict or direction in its prefix is not known"}\n'
        "    the profile says otherwise: is not read: no prefix of the profile is in it\n"
    )


def test_nothing_of_a_file_is_raw_in_a_terminal() -> None:
    profile = Profile(
        name="ours",
        description=HOSTILE,
        applies_to=HOSTILE,
        prefixes=(PrefixRule("{verdict} x", verdicts=((HOSTILE, Verdict.LOG),)),),
        samples=(Sample(HOSTILE, False, {"zone": HOSTILE}), Sample(HOSTILE * 10_000, True, {"zone": HOSTILE})),
        file=Path(f"/{HOSTILE}.toml"),
    )
    for text in (explained(profile)[0], listed([profile])):
        assert all(line.isprintable() for line in text.splitlines())
        assert len(text) < 5_000


def test_a_profile_without_prefixes_says_so() -> None:
    assert "\nPrefixes:\n  none\n" in explained(Profile("ours", "d", "a", (), (), None))[0]
