"""One probe: an endpoint is asked whether it is alive. No database."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ...fields import undecryptable_fields
from ...hiding import forget_variables, without_secrets
from ...models import Endpoint, EndpointHealth, Probe
from ...policies import health as policy
from ...policies.reasons import HttpReason, MaybeReason, Reason
from .. import attempts, http, wire
from ..http import Answer, NoAnswer

logger = logging.getLogger("django_webhooks.health")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The result of a probe; a reason where it failed."""

    candidate: EndpointHealth
    started_at: datetime
    duration: float
    response: Answer | NoAnswer | None

    @property
    def reason(self) -> MaybeReason:
        """Why it failed, empty where it succeeded."""
        if isinstance(self.response, NoAnswer):
            return self.response.reason
        if self.response is not None and not 200 <= self.response.status < 300:
            return HttpReason(self.response.status)
        return ""

    @property
    def is_evidence(self) -> bool:
        """Whether it tells of the endpoint rather than of the load or of us."""
        return self.reason not in policy.NOT_EVIDENCE


def make(candidate: EndpointHealth, clock: Callable[[], datetime], timeout: float) -> Checked:
    """Ask an endpoint within ``timeout`` seconds, and return what came of it. Never raises."""
    started_at, began = clock(), time.monotonic()
    try:
        response = _ask(candidate, timeout, now=started_at)
    except Exception as error:  # One bad row must not stop its neighbours.
        # Whoever reports it reads the variables of its frames, and its message.
        forget_variables(error)
        known = attempts.masker(candidate.endpoint, candidate.subscription)
        logger.error(
            "Endpoint %s cannot be probed.",
            candidate.pk,
            exc_info=without_secrets(error, known.mask),
        )
        response = NoAnswer(reason=Reason.INTERNAL, detail=f"{type(error).__name__} in the prober.")
    return Checked(
        candidate=candidate,
        started_at=started_at,
        duration=time.monotonic() - began,
        response=response,
    )


def _ask(candidate: EndpointHealth, timeout: float, *, now: datetime) -> Answer | NoAnswer | None:
    endpoint = candidate.endpoint
    if undecryptable := undecryptable_fields(endpoint):
        # Our key's absence says nothing of the receiver.
        return NoAnswer(reason=Reason.INTERNAL, detail=next(iter(undecryptable.values())))
    how: dict[str, Any] = {
        "timeout": timeout,
        "trust": attempts.trust(endpoint),
        "tenant": attempts.tenant(candidate.subscription),
    }
    if endpoint.probe != Endpoint.ProbeKind.CONNECT and (no := attempts.refusal(endpoint)):
        return no
    match endpoint.probe:
        case Endpoint.ProbeKind.HTTP:
            headers = {"user-agent": wire.USER_AGENT, **wire.credentials(endpoint)}
            return http.get(endpoint.health_url, headers=headers, **how)
        case Endpoint.ProbeKind.PING:
            headers, body = wire.ping(candidate.subscription, endpoint, now=now)
            return http.post(endpoint.url, headers=headers, body=body, **how)
    return http.connect(endpoint.url, **how)


def row(checked: Checked) -> Probe:
    """Return the row of a probe, not saved."""
    candidate, response = checked.candidate, checked.response
    said = attempts.Said()
    if response is not None:
        said = attempts.masker(candidate.endpoint, candidate.subscription).said(response)
    return Probe(
        endpoint_id=candidate.pk,
        kind=candidate.endpoint.probe,
        started_at=checked.started_at,
        duration_ms=round(checked.duration * 1000),
        succeeded=not checked.reason,
        reason=checked.reason[:40],
        status_code=response.status if isinstance(response, Answer) else None,
        detail=said.detail,
    )
