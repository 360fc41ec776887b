"""What goes wrong for a while and is logged once, not each time that it is met (pure)."""

from __future__ import annotations

__all__ = ["Trouble"]


class Trouble:
    """Why something does not work at present. Its methods say what is worth a line in the log.

    One thread at a time calls them; any may read :attr:`text`.
    """

    def __init__(self) -> None:
        #: The reason that was met last, in one line; "" while all is well.
        self.text = ""

    def begins(self, text: str) -> bool:
        """It does not work because of ``text``; True when it did before."""
        begun, self.text = not self.text, text
        return begun

    def changes(self, text: str) -> bool:
        """The same, for whoever logs each reason; True when it is not the one that was met last."""
        changed, self.text = text != self.text, text
        return changed

    def ends(self) -> bool:
        """It works; True when it did not before."""
        ended, self.text = bool(self.text), ""
        return ended
