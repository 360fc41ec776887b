from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.journal.entry import MESSAGE_LIMIT, is_trusted, microseconds, missed_messages, text_of


@pytest.mark.parametrize(
    ("transport", "facility", "trusted"),
    [
        pytest.param(b"kernel", b"0", True, id="the kernel"),
        pytest.param(b"kernel", b"1", False, id="root wrote to /dev/kmsg"),
        pytest.param(b"kernel", b"", False, id="no facility"),
        pytest.param(b"kernel", b"00", False, id="not journald's spelling"),
        pytest.param(b"journal", b"0", False, id="native socket"),
        pytest.param(b"syslog", b"0", False, id="/dev/log"),
        pytest.param(b"stdout", b"0", False, id="a service's output"),
        pytest.param(b"driver", b"0", False, id="journald itself"),
        pytest.param(b"", b"0", False, id="no transport"),
    ],
)
def test_only_the_kernels_own_lines_are_trusted(transport: bytes, facility: bytes, trusted: bool) -> None:
    assert is_trusted(transport, facility) is trusted


@pytest.mark.parametrize(
    ("message", "text"),
    [
        pytest.param(b"IN=eth0 OUT=", "IN=eth0 OUT=", id="plain"),
        pytest.param("späť".encode(), "späť", id="UTF-8"),
        pytest.param(b"a\xffb\xc3", r"a\xffb\xc3", id="not UTF-8"),
        pytest.param(b"", "", id="empty"),
        pytest.param(b"x" * (MESSAGE_LIMIT + 1), "x" * MESSAGE_LIMIT, id="cut"),
        pytest.param("ä".encode() * MESSAGE_LIMIT, "ä" * (MESSAGE_LIMIT // 2), id="cut by bytes"),
    ],
)
def test_a_message_becomes_text(message: bytes, text: str) -> None:
    assert text_of(message) == text


@pytest.mark.parametrize(
    ("message", "count"),
    [
        (b"Missed 1 kernel messages", 1),
        (b"Missed 123456 kernel messages", 123456),
        (b"Missed -1 kernel messages", None),
        (b"Missed kernel messages", None),
        (b"Missed 5 kernel messages, or so", None),
        (b"Missed " + b"9" * 30 + b" kernel messages", None),
    ],
)
def test_journalds_notice_of_missed_messages(message: bytes, count: int | None) -> None:
    assert missed_messages(message) == count


@pytest.mark.parametrize(
    ("field", "value"),
    [(b"0", 0), (b"1234567890", 1234567890), (b"", None), (b"-1", None), (b"x", None), (b"9" * 19, None)],
)
def test_a_timestamp_field_is_a_number_or_nothing(field: bytes, value: int | None) -> None:
    assert microseconds(field) == value


@given(st.binary())
def test_any_bytes_can_be_read(raw: bytes) -> None:
    assert len(text_of(raw)) <= 4 * len(raw)
    microseconds(raw)
    missed_messages(raw)
