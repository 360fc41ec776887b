"""``make bench``: how fast kiptail is, next to journalctl(1) on the same journal files."""
