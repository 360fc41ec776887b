"""``python -m kiptail``."""

from kiptail.cli import main

main()
