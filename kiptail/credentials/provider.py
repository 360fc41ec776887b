"""A program: what an auth provider of a kubeconfig (oidc, gcp, azure) says, by the ``kubernetes`` package.

The only module that imports ``kubernetes``. It reads the user's ``auth-provider`` as JSON from the standard input, and
prints an ExecCredential as exec plugins do; :mod:`kiptail.credentials.plugin` runs it, within the bounds of those.
"""

from __future__ import annotations

import json
import logging
import sys

__all__ = ["main"]

#: What is wrong goes to the standard error; its longest text, in characters.
_LONGEST = 300


def main() -> int:
    """The exit code."""
    logging.disable()
    try:
        token = _token(json.load(sys.stdin))
    except Exception as error:  # noqa: BLE001 - providers and their libraries raise anything
        text = f"its configuration has no {error}" if isinstance(error, KeyError) else str(error)
        sys.stderr.write((text or type(error).__name__)[:_LONGEST])
        return 1
    status = {"token": token}
    json.dump({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}, sys.stdout)
    return 0


def _token(provider: object) -> str | None:
    from kubernetes.client import Configuration  # noqa: PLC0415 - it takes 0.3 s
    from kubernetes.config import kube_config  # noqa: PLC0415

    document = {
        "current-context": "kiptail",
        "contexts": [{"name": "kiptail", "context": {"cluster": "kiptail", "user": "kiptail"}}],
        "clusters": [{"name": "kiptail", "cluster": {"server": "https://localhost"}}],
        "users": [{"name": "kiptail", "user": {"auth-provider": provider}}],
    }
    configuration = Configuration()
    kube_config.KubeConfigLoader(config_dict=document, active_context="kiptail").load_and_set(configuration)
    authorization = configuration.auth_settings().get("BearerToken", {}).get("value")
    return str(authorization).removeprefix("Bearer ") if authorization else None


if __name__ == "__main__":
    sys.exit(main())
