"""Credentials that an exec plugin or an auth provider gives, by the loader of the ``kubernetes`` package.

The only module that imports ``kubernetes``, and only when such a credential is asked for: the import takes 0.3 s and
29 MiB. It is stricter than that loader: an exec plugin that hangs is killed, and what the loader logs becomes an error
or one warning.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kiptail.errors import ClusterError, one_line
from kiptail.kubecontext import Json
from kiptail.kubefiles import why

__all__ = ["PROVIDERS", "loaded", "loader_messages", "plugins_word"]

#: An exec plugin that takes longer is killed.
EXEC_TIMEOUT_S = 30
#: Keys of a kubeconfig's user whose tokens expire, and are renewed by the loader.
PROVIDERS = ("exec", "auth-provider")


@contextlib.contextmanager
def loaded(path: Path, cluster: Json, user: Json) -> Iterator[Any]:
    """A kubernetes.client.Configuration, with what plugins and providers say; its files last as long as the context.

    Raises ClusterError.
    """
    from kubernetes.client import Configuration  # noqa: PLC0415 - see above
    from kubernetes.config import kube_config  # noqa: PLC0415

    document = {
        "current-context": "kiptail",
        "contexts": [{"name": "kiptail", "context": {"cluster": "kiptail", "user": "kiptail"}}],
        "clusters": [{"name": "kiptail", "cluster": cluster}],
        "users": [{"name": "kiptail", "user": user}],
    }
    _limit_exec_plugin(user)
    # Not load_kube_config(): it takes a colon in a path for a separator.
    loader = kube_config.KubeConfigLoader(
        config_dict=document, active_context="kiptail", config_base_path=str(path.parent)
    )
    configuration = Configuration()
    try:
        try:
            with loader_messages() as complaints:
                loader.load_and_set(configuration)
        except Exception as error:  # the loader checks no types, and plugins and providers raise anything
            raise ClusterError(f"the kubeconfig {path} cannot be used: {why(error)}") from error
        if "exec" in user and not configuration.api_key and not configuration.cert_file:
            reason = complaints[-1] if complaints else "it gave neither a token nor a certificate"
            raise ClusterError(f"the kubeconfig {path}: the exec plugin failed: {reason}")
        yield configuration
    finally:
        # The loader writes inline certificates and keys to files that stay while the process runs. They are
        # loaded now. (temp_file_path would not do: 22.6 looks for the removed files at the next reading.)
        kube_config._cleanup_temp_files()
        atexit.unregister(kube_config._cleanup_temp_files)  # or there would be one more after each reading


def plugins_word(configuration: Any) -> Callable[[], str | None]:
    """What the plugin or provider says, asked again when it is out of date."""

    def ask() -> str | None:
        word = configuration.auth_settings().get("BearerToken", {}).get("value")
        return None if word is None else str(word)

    return ask


def _limit_exec_plugin(user: Json) -> None:
    """Run an exec plugin under timeout(1): the loader would wait for ever for one that hangs."""
    plugin, timeout = user.get("exec"), shutil.which("timeout")
    # On a terminal the loader lets the plugin ask questions, which takes time and the terminal.
    if not isinstance(plugin, dict) or not isinstance(plugin.get("command"), str) or not timeout:
        return
    if sys.stdout is not None and sys.stdout.isatty():
        return
    plugin["args"] = ["-k", "5", str(EXEC_TIMEOUT_S), plugin["command"], *(plugin.get("args") or [])]
    plugin["command"] = timeout


@contextlib.contextmanager
def loader_messages() -> Iterator[list[str]]:
    """What the loader logs in this thread, its only way to tell that an exec plugin failed."""
    caught: list[str] = []
    thread = threading.get_ident()

    def catch(record: logging.LogRecord) -> bool:
        if record.thread != thread or not record.pathname.endswith("kube_config.py"):
            return True
        text = one_line(record.getMessage())
        late = text.startswith("exec: process returned 124")
        caught.append(f"the exec plugin took longer than {EXEC_TIMEOUT_S} s" if late else text)
        return False

    root = logging.getLogger()
    # logging.error(), which the loader calls, installs a handler that writes to stderr when there is none.
    handler = logging.NullHandler()
    root.addHandler(handler)
    root.addFilter(catch)
    try:
        yield caught
    finally:
        root.removeFilter(catch)
        root.removeHandler(handler)
