"""Published networks: who may call, as the sender itself says it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from django.http import HttpRequest

from ..policies.reasons import RejectionReason
from ..receiving import Rejected
from . import network_lists

__all__ = ["published"]


def published(*names: str) -> Callable[[HttpRequest], Iterable[str]]:
    """Return what ``allowed_networks`` takes: the lists of these names, as they are now.

    ``manage.py webhooks_networks`` loads them. While one is not there nobody is let in, and
    senders are asked to come again.
    """

    def allowed(request: HttpRequest) -> Iterable[str]:
        found: list[str] = []
        for name in names:
            networks = network_lists.of(name)
            if networks is None:
                raise Rejected(
                    RejectionReason.NETWORKS,
                    503,
                    f"Load the networks with 'manage.py webhooks_networks {name}'.",
                )
            found += networks
        return found

    return allowed
