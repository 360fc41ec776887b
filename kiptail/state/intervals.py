"""The rows of this node's pods' intervals of ownership in the state file, which ``store`` commits."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping

from kiptail.pods.ownership import Interval, PodRef
from kiptail.state.schema import INTERVAL, POD_NEWS

__all__ = ["load_intervals", "save_intervals"]

#: So many intervals that have ended are kept at most, the latest ones.
MAX_ENDED = 4_096


def save_intervals(connection: sqlite3.Connection, changes: Mapping[str, Iterable[Interval]], *, news_us: int) -> None:
    """Replace what is known of these addresses; ``news_us`` is when there was news of pods last, µs since the epoch."""
    connection.executemany("DELETE FROM interval WHERE address=?", [(address,) for address in changes])
    INTERVAL.save(
        connection,
        [
            (address, i.key, i.since_us, i.sure_us, i.held_us, i.until_us, i.unseen_end, i.after_gap, *i.ref)
            for address, intervals in changes.items()
            for i in intervals
        ],
    )
    connection.execute(
        "DELETE FROM interval WHERE until_us <"
        " (SELECT until_us FROM interval WHERE until_us IS NOT NULL ORDER BY until_us DESC LIMIT 1 OFFSET ?)",
        (MAX_ENDED - 1,),
    )
    POD_NEWS.save(connection, [(1, news_us)])


def load_intervals(connection: sqlite3.Connection) -> tuple[list[tuple[str, Interval]], int]:
    """All that was saved, with its addresses, and when there was news of pods last."""
    intervals = [
        (
            address,
            Interval(
                key,
                PodRef(*ref),
                since_us,
                sure_us,
                held_us,
                until_us,
                bool(unseen),
                local=True,
                after_gap=bool(after_gap),
            ),
        )
        for address, key, since_us, sure_us, held_us, until_us, unseen, after_gap, *ref in INTERVAL.load(connection)
    ]
    return intervals, next(POD_NEWS.load(connection), (1, 0))[1]
