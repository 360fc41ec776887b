"""The configuration file that kiptail writes: sealed, written as a whole, and never over somebody's work."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.admin.setup import is_unchanged, sealed, write
from kiptail.errors import KiptailError
from tools.package_files import configuration

TEXT = '# Settings.\n\n# One.\n[[prefixes]]\ntext = "a:"\n'


@given(st.text(max_size=80).map(lambda text: f"# {text}\n"))
def test_the_seal_fits_what_was_sealed_and_nothing_else(text: str) -> None:
    made = sealed(text)
    assert is_unchanged(made)
    assert not is_unchanged(text)
    assert not is_unchanged(made + "\n")
    assert not is_unchanged(made.replace("#", " ", 1))


def test_the_seal_is_a_comment_in_the_first_block() -> None:
    lines = sealed(TEXT).splitlines()
    assert lines[0] == "# Settings."
    assert lines[1].startswith("# Checksum of this file as kiptail wrote it, without this line: ")
    assert lines[2] == ""
    assert tomllib.loads(sealed(TEXT)) == tomllib.loads(TEXT)


def test_a_text_that_looks_like_a_seal_makes_none() -> None:
    forged = f"# Checksum of this file as kiptail wrote it, without this line: {'0' * 32}\n"
    assert not is_unchanged(forged)
    assert is_unchanged(sealed(f"# Settings.\n\n{forged}"))


def test_a_new_file_is_readable_by_all_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write(tmp_path / "new" / "kiptail.toml", TEXT, force=False)
    finally:
        os.umask(before)
    file = tmp_path / "new" / "kiptail.toml"
    assert file.read_text() == TEXT
    assert file.stat().st_mode & 0o777 == 0o644
    assert os.listdir(file.parent) == ["kiptail.toml"]


OWN = [
    pytest.param(sealed(TEXT), id="what setup wrote"),
    pytest.param(configuration(), id="the shipped example"),
]


@pytest.mark.parametrize("before", OWN)
def test_what_kiptail_wrote_is_replaced(tmp_path: Path, before: str) -> None:
    file = tmp_path / "kiptail.toml"
    file.write_text(before)
    write(file, "new\n", force=False)
    assert file.read_text() == "new\n"


@pytest.mark.parametrize("before", [*OWN, pytest.param("", id="an empty file")])
def test_what_somebody_changed_is_replaced_by_force_only(tmp_path: Path, before: str) -> None:
    file = tmp_path / "kiptail.toml"
    file.write_text(f"{before}# mine\n")
    with pytest.raises(KiptailError, match=r"changed by hand.*--force"):
        write(file, "new\n", force=False)
    assert file.read_text() == f"{before}# mine\n"
    write(file, "new\n", force=True)
    assert file.read_text() == "new\n"


def test_a_file_that_is_no_text_is_somebodys(tmp_path: Path) -> None:
    file = tmp_path / "kiptail.toml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(KiptailError, match="changed by hand"):
        write(file, "new\n", force=False)


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real").write_text(sealed(TEXT))
    write(tmp_path / "link", "new\n", force=False)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new\n"


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, said in (
        (tmp_path, "is a directory"),
        (tmp_path / "no" / "such" / "file", r"cannot write .*No such file"),
        (tmp_path / "file" / "x", "Not a directory"),
        (Path("/dev/null"), "no regular file"),
    ):
        with pytest.raises(KiptailError, match=said) as caught:
            write(path, "new\n", force=False)
        assert "\n" not in str(caught.value)
