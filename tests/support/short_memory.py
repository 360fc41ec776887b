"""kiptail with NetworkPolicies that are asked for anew after a second, for tests that change them."""

from __future__ import annotations

from kiptail.cli.main import main
from kiptail.policies import asker

__all__: list[str] = []

if __name__ == "__main__":
    asker.KEPT = 1.0
    main()
