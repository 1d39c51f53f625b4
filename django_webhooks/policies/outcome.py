"""What an answer, or its absence, means: succeeded, worth repeating, or final.

| answer                                    | meaning                                        |
|-------------------------------------------|------------------------------------------------|
| 2xx                                       | succeeded                                      |
| 410                                       | final, and the endpoint is gone                |
| ``webhook-no-retry: 1`` on a failure      | final                                          |
| 408, 425, 429, 5xx, no answer             | worth repeating                                |
| other 4xx                                 | worth repeating, or final where asked for      |
| 3xx, 1xx, anything else                   | worth repeating; a redirect is never followed  |
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

_TEMPORARY = frozenset({408, 425, 429})
# RFC 9110 section 10.2.3 allows a number of seconds; ten digits are over 30 years.
_MAX_DIGITS = 10


class Verdict(enum.StrEnum):
    """What an attempt told about its delivery."""

    SUCCEEDED = "succeeded"
    RETRY = "retry"
    FINAL = "final"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an attempt told us.

    ``reason`` is a short code (``http_503``, ``timeout``), empty on success. ``retry_after`` is the
    moment before which the receiver does not want to be asked again.
    """

    verdict: Verdict
    reason: str = ""
    retry_after: datetime | None = None
    endpoint_gone: bool = False

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
) -> Outcome:
    """Return what an answer means; header names are in lower case."""
    if 200 <= status < 300:
        return Outcome(verdict=Verdict.SUCCEEDED)
    reason = "redirect" if 300 <= status < 400 and status != 304 else f"http_{status}"
    if status == 410:
        return Outcome(verdict=Verdict.FINAL, reason=reason, endpoint_gone=True)
    if headers.get("webhook-no-retry", "").strip() == "1":
        return Outcome(verdict=Verdict.FINAL, reason="receiver_refused")
    if 400 <= status < 500 and status not in _TEMPORARY and client_errors_final:
        return Outcome(verdict=Verdict.FINAL, reason=reason)
    return Outcome(
        verdict=Verdict.RETRY,
        reason=reason,
        retry_after=parse_retry_after(headers.get("retry-after", ""), now=now),
    )


def of_failure(reason: str) -> Outcome:
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
        try:
            moment = parsedate_to_datetime(text[:64])
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
    return moment if moment > now else None
