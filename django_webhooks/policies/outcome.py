"""The meaning of an answer, or of its absence: succeeded, worth repeating, or final.

| answer                                    | meaning                                        |
|-------------------------------------------|------------------------------------------------|
| 2xx                                       | succeeded                                      |
| 410                                       | the endpoint is gone; the delivery is not      |
| ``webhook-no-retry: 1`` on a failure      | final, whichever endpoint is asked             |
| 408, 425, 429, 5xx, no answer             | worth repeating                                |
| other 4xx                                 | worth repeating, or final where asked for      |
| 3xx, 1xx, anything else                   | worth repeating; a redirect is never followed  |

Whether an endpoint takes deliveries is another question: see ``policies.health``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from . import health
from .health import StatusPolicy
from .reasons import HttpReason, MaybeReason, Reason, ReasonCode

_TEMPORARY = frozenset({408, 425, 429})
#: Statuses by which receivers refuse a signature.
_REFUSALS = frozenset({400, 401, 403})
#: How far a timestamp may be from a receiver's clock: Standard Webhooks, and most libraries.
TOLERANCE = timedelta(minutes=5)
# RFC 9110 section 10.2.3 allows a number of seconds; ten digits are over 30 years.
_MAX_DIGITS = 10


class Verdict(enum.StrEnum):
    """The verdict of an attempt about its delivery."""

    SUCCEEDED = "succeeded"
    RETRY = "retry"
    FINAL = "final"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of an attempt.

    ``reason`` is one of :mod:`.reasons` (``http_503``, ``timeout``), empty on success.
    ``retry_after`` is the moment before which the receiver does not want to be asked again.
    ``endpoint_gone`` says that the endpoint is to be disabled: a final verdict with it holds only
    where there is no other endpoint. ``is_for_all`` says that no other endpoint is to be asked
    because of this answer.
    """

    verdict: Verdict
    reason: MaybeReason = ""
    retry_after: datetime | None = None
    endpoint_gone: bool = False
    is_for_all: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether the delivery arrived."""
        return self.verdict is Verdict.SUCCEEDED


def of_answer(
    status: int,
    headers: Mapping[str, str],
    *,
    now: datetime,
    client_errors_final: bool = False,
    statuses: StatusPolicy = StatusPolicy.NON_2XX,
) -> Outcome:
    """Return what an answer means; header names are in lower case.

    ``statuses`` says whether a refusal (3xx, 4xx) speaks of the endpoint or of the event alone.
    """
    if 200 <= status < 300:
        return Outcome(verdict=Verdict.SUCCEEDED)
    is_redirect = 300 <= status < 400 and status != 304
    reason: ReasonCode = Reason.REDIRECT if is_redirect else HttpReason(status)
    if status == 410:
        verdict = Verdict.FINAL if client_errors_final else Verdict.RETRY
        return Outcome(verdict=verdict, reason=reason, endpoint_gone=True)
    if refuses_time(status, headers, now=now):
        reason = Reason.CLOCK
    if headers.get("webhook-no-retry", "").strip() == "1":
        return Outcome(verdict=Verdict.FINAL, reason=Reason.RECEIVER_REFUSED, is_for_all=True)
    is_for_all = statuses is StatusPolicy.SERVER_ERRORS and health.is_refusal(reason)
    if 400 <= status < 500 and status not in _TEMPORARY and client_errors_final:
        return Outcome(verdict=Verdict.FINAL, reason=reason, is_for_all=is_for_all)
    return Outcome(
        verdict=Verdict.RETRY,
        reason=reason,
        retry_after=parse_retry_after(headers.get("retry-after", ""), now=now),
        is_for_all=is_for_all,
    )


def refuses_time(status: int, headers: Mapping[str, str], *, now: datetime) -> bool:
    """Say whether an answer refuses a request for its timestamp.

    A receiver of ours says so (``webhook-rejected``). Others refuse such a signature as they refuse
    any, but tell their time: RFC 9110 section 6.6.1.
    """
    if headers.get("webhook-rejected", "").strip() == "timestamp":
        return True
    offset = clock_offset(headers, now=now)
    return status in _REFUSALS and offset is not None and abs(offset) > TOLERANCE


def clock_offset(headers: Mapping[str, str], *, now: datetime) -> timedelta | None:
    """Return by how much a receiver's clock is ahead of ours, by its Date; None without one."""
    moment = _http_date(headers.get("date", "").strip())
    return None if moment is None else moment - now


def of_failure(reason: Reason) -> Outcome:
    """Return what the absence of an answer means."""
    return Outcome(verdict=Verdict.RETRY, reason=reason)


def parse_retry_after(text: str, *, now: datetime) -> datetime | None:
    """Return the moment a Retry-After header names, or None where it is missing or nonsense.

    Seconds or an HTTP date (RFC 9110 section 10.2.3); a moment in the past is None.
    """
    text = text.strip()
    # str.isdigit() alone takes '²', which int() refuses.
    if text.isascii() and text.isdigit():
        if len(text) > _MAX_DIGITS:
            return datetime.max.replace(tzinfo=UTC)
        try:
            moment = now + timedelta(seconds=int(text))
        except OverflowError:
            return datetime.max.replace(tzinfo=UTC)
    else:
        found = _http_date(text)
        if found is None:
            return None
        moment = found
    return moment if moment > now else None


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text[:64])
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
