"""Lines that name a policy which did not allow a packet, joined with the line of its reject (pure).

k3s logs a packet once for each policy that did not allow it, and then once more if no other policy did: only the last
line is a verdict, and only those before it say whose. All are about one packet, so they are the same but for prefix and
mark, and its IP ID or its sequence number are no other packet's within a second.

What is known at a line follows from the lines of the second before alone. So reading from anywhere comes to the same
flows, once :meth:`Pairs.note` was given what stands before: :data:`LOOK_BACK_US`.
"""

from __future__ import annotations

from kiptail.flows.trail import SECOND_US

__all__ = ["LOOK_BACK_US", "MOST_HINTS", "Pairs", "packet_of_line", "policies_text"]

#: How long a hint is good for, and so how much of the journal says what is known: as whole seconds are counted, two.
WITHIN_US = SECOND_US
LOOK_BACK_US = 2 * SECOND_US
#: The most hints of one second that are kept, of about 0.5 KiB each.
MOST_HINTS = 5_000
#: The most policies that are named: the first by their names.
MOST_NAMED = 3
#: No line of ulogd's says more of a packet, in bytes.
_PACKET_LIMIT = 1_000
#: Seconds whose hints are kept: the one that is read, the one before, and one more, as lines are a little out of order.
_SECONDS = 3


class Pairs:
    """The hints of the last seconds."""

    def __init__(self) -> None:
        #: By whole second; of each packet the policies, and when each was seen last.
        self._hints: dict[int, dict[bytes, dict[str, int]]] = {}
        #: How many there were in each of these seconds.
        self._numbers: dict[int, int] = {}

    def note(self, packet: bytes, policy: str, time_us: int) -> None:
        """This policy did not allow the packet; more than :data:`MOST_HINTS` in a second are left out."""
        second = time_us // SECOND_US
        if second not in self._hints:
            self._hints[second], self._numbers[second] = {}, 0
            while len(self._hints) > _SECONDS:
                oldest = next(iter(self._hints))
                del self._hints[oldest], self._numbers[oldest]
        if self._numbers[second] < MOST_HINTS:
            self._numbers[second] += 1
            self._hints[second].setdefault(packet, {})[policy] = time_us

    def policies(self, packet: bytes, time_us: int) -> list[str]:
        """The policies that did not allow the packet within the second before, sorted."""
        second = time_us // SECOND_US
        found = {
            policy
            for hints in (self._hints.get(second - 1), self._hints.get(second))
            if hints and packet in hints
            for policy, seen_us in hints[packet].items()
            if 0 <= time_us - seen_us <= WITHIN_US
        }
        return sorted(found)


def packet_of_line(message: bytes) -> bytes:
    """What in ulogd's line tells one packet from another: all from SRC= on, but for the mark."""
    return message[message.find(b" SRC=") : message.rfind(b" MARK=")][:_PACKET_LIMIT]


def policies_text(policies: list[str]) -> str:
    """Some policies as :attr:`kiptail.flows.flow.FlowKey.policy` has them."""
    return ", ".join(policies[:MOST_NAMED])
