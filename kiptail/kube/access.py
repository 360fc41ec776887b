"""Whether the cluster lets this kiptail do its work, asked right by right."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from kiptail.credentials.identity import Identity
from kiptail.errors import ApiError, ClusterError
from kiptail.kube.rights import Wanted, what_grants

__all__ = ["AccessReviews", "Reviewer", "is_allowed", "require_rights"]


class AccessReviews(Protocol):
    """Asks the API server for one right."""

    def allowed(
        self,
        verb: str,
        resource: str,
        *,
        group: str = "",
        field_selector: tuple[str, str] | None = None,
        namespace: str = "",
        name: str = "",
    ) -> bool | None:
        """By SelfSubjectAccessReview; None when that cannot be asked. Raises ApiError."""


class Reviewer(AccessReviews, Protocol):
    """What a start asks of the API server."""

    @property
    def server(self) -> str:
        """Its URL."""

    def identity(self) -> Identity:
        """Whom the API server takes this for, as far as can be found out."""


def is_allowed(api: AccessReviews, wanted: Wanted) -> bool | None:
    """Whether this user has the right; None when that cannot be asked. Raises ApiError."""
    namespace, name = wanted.account or ("", "")
    return api.allowed(
        wanted.right.verb,
        wanted.right.resource,
        group=wanted.right.group,
        field_selector=wanted.selector,
        namespace=namespace,
        name=name,
    )


def require_rights(api: Reviewer, rights: Iterable[Wanted], *, must_answer: bool) -> None:
    """Raise :class:`ClusterError` when the cluster refuses: certificate, credential or a missing right.

    A server that does not answer is no refusal, unless ``must_answer``.
    """
    missing = []
    try:
        missing = [wanted for wanted in rights if is_allowed(api, wanted) is False]
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
        texts = ", ".join(wanted.text for wanted in missing)
        identity = api.identity()
        # Several rights often have the same remedy.
        remedies = dict.fromkeys(what_grants(identity, wanted) for wanted in missing)
        raise ClusterError(f"the cluster does not allow this credential to {texts}", remedy="; ".join(remedies))
