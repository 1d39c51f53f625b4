"""Settings under which a machine that stands still for a while causes no request to be repeated."""

from __future__ import annotations

#: A receiver that stands still answers within the deadline, and a worker that does has its lease.
PATIENT = {"WEBHOOKS_TIMEOUT_SECONDS": 30.0, "WEBHOOKS_LEASE_SECONDS": 90.0}
