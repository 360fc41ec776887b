"""``python -m kiptail``."""

from kiptail.cli.main import main

main()
