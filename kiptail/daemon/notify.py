"""What systemd is notified of: sd_notify(3), which can neither fail nor block.

systemd-python's own ``notify`` raises when the socket is gone and waits while its reader does not read; a daemon
must count on in both cases.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

__all__ = ["Notifier", "watchdog_interval"]


class Notifier:
    """Sends to ``$NOTIFY_SOCKET``, if there is one."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    def tell(self, message: str) -> None:
        """``message`` is an assignment as sd_notify(3) lists them."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.sendto(message.encode(errors="replace"), self._address)

    def close(self) -> None:
        """Let the socket go."""
        if self._socket is not None:
            self._socket.close()


def watchdog_interval() -> float:
    """Half of what systemd asks for in $WATCHDOG_USEC, in seconds; 0.0 when it does not watch."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2e6 if microseconds.isdigit() else 0.0
