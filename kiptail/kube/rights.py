"""Whether the cluster lets this kiptail do its work, asked once at start."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from kiptail.credentials.identity import Identity, grant_remedy
from kiptail.errors import ApiError, ClusterError

__all__ = ["POST_RIGHTS", "Reviewer", "Right", "require_rights", "watch_rights"]


class Right(NamedTuple):
    """A verb on a resource of the core API group, cluster-wide."""

    verb: str
    resource: str
    #: The field (key, value) that is selected by: a kubelet may follow the pods of its own node only.
    field: tuple[str, str] | None = None


def watch_rights(node: str | None) -> tuple[Right, ...]:
    """The rights to follow the pods of a node, or of the cluster."""
    field = ("spec.nodeName", node) if node is not None else None
    return Right("list", "pods", field), Right("watch", "pods", field)


POST_RIGHTS = (Right("create", "events"), Right("patch", "events"))


class Reviewer(Protocol):
    """What is asked of the API server."""

    @property
    def server(self) -> str:
        """Its URL."""

    def allowed(self, verb: str, resource: str, *, field_selector: tuple[str, str] | None = None) -> bool | None:
        """By SelfSubjectAccessReview; None when that cannot be asked. Raises ApiError."""

    def identity(self) -> Identity:
        """Whom the API server takes this for, as far as can be found out."""


def require_rights(api: Reviewer, rights: Iterable[Right], *, must_answer: bool) -> None:
    """Raise :class:`ClusterError` when the cluster refuses: certificate, credential or a missing right.

    A server that does not answer is no refusal, unless ``must_answer``.
    """
    missing = []
    try:
        missing = [
            right for right in rights if api.allowed(right.verb, right.resource, field_selector=right.field) is False
        ]
    except ApiError as error:
        if error.untrusted:
            raise ClusterError(
                f"the certificate of the API server {api.server} is not trusted: {error}", remedy=error.remedy
            ) from error
        if error.status == 401:
            raise ClusterError(
                f"the API server {api.server} does not accept the credential (401 Unauthorized)",
                remedy="renew the token or certificate in the kubeconfig",
            ) from error
        if not error.transient:
            raise ClusterError(f"the API server {api.server} refuses: {error}") from error
        if must_answer:
            raise ClusterError(f"the API server {api.server} does not answer: {error}") from error
    if missing:
        wanted = ", ".join(
            f"{verb} {resource}" + (f" with {'='.join(field)}" if field else "") for verb, resource, field in missing
        )
        identity = api.identity()
        remedies = [
            grant_remedy(
                identity,
                right.verb,
                right.resource,
                node=right.field[1] if right.field else None,
                every_pod=right.field is None,
            )
            for right in missing
        ]
        # Several rights often have the same remedy.
        raise ClusterError(
            f"the cluster does not allow this credential to {wanted}", remedy="; ".join(dict.fromkeys(remedies))
        )
