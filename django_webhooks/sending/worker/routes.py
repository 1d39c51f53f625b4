"""The routes of one run: subscriptions as they were last read, and where their jobs go now."""

from __future__ import annotations

import time
from collections.abc import Iterator, Set
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from ...models import Delivery, EndpointHealth, Subscription
from ..attempts import Job
from ..claims import routing

#: Seconds between two looks at the routes of what is slow: another worker may have switched.
REFRESH = 0.5


class Routes:
    """The subscriptions of one run. Threads ask for routes while the run reads them again."""

    def __init__(self, *, using: str) -> None:
        self.using = using
        #: Subscriptions with their endpoints as they were last read.
        self.subscriptions: dict[UUID, Subscription] = {}
        self._routes: dict[UUID, tuple[Subscription, routing.Route]] = {}
        self._refreshed_at = time.monotonic()

    def refresh(self, keys: Set[UUID] | None = None) -> None:
        """Read these subscriptions again, or all of them."""
        self._refreshed_at = time.monotonic()
        wanted = set(self.subscriptions) if keys is None else keys
        self.subscriptions.update(routing.refresh(wanted, using=self.using))

    def are_stale(self, *, has_slow: bool) -> bool:
        """Say whether another worker, or a health check, may have switched what is sent here."""
        if time.monotonic() - self._refreshed_at < REFRESH:
            return False
        return has_slow or any(
            state != EndpointHealth.State.HEALTHY
            for subscription in self.subscriptions.values()
            for state, _ in _states(subscription)
        )

    def renew(self, job: Job, *, now: datetime) -> Job | None:
        """Return a job with the endpoint that is active now, or None where it is held."""
        latest = self.subscriptions[job.subscription.pk]
        if latest is job.subscription or job.is_trial:
            return job
        route = self._route(latest, job.delivery)
        endpoint = route.endpoint
        if endpoint is None or not latest.is_active:
            return None
        if not routing.is_readable(latest, endpoint, now=now):
            return None
        return replace(job, endpoint=endpoint, why=route.why, endpoint_count=route.endpoint_count)

    def awaiting_trial(self, *, now: datetime) -> Iterator[Subscription]:
        """Yield the subscriptions with an endpoint on trial that no delivery tries."""
        for subscription in self.subscriptions.values():
            if any(
                state == EndpointHealth.State.TRIAL and not (until and until > now)
                for state, until in _states(subscription)
            ):
                yield subscription

    def _route(self, subscription: Subscription, delivery: Delivery) -> routing.Route:
        # What was read at one moment has one route, but where each delivery has its own.
        known, route = self._routes.get(subscription.pk, (None, None))
        if known is not subscription or route is None or delivery.endpoint_id:
            route = routing.of(subscription, delivery)
            if not route.is_own:
                self._routes[subscription.pk] = (subscription, route)
        return route


def _states(subscription: Subscription) -> Iterator[tuple[str, datetime | None]]:
    """Yield the state of each endpoint, and until when its trial is taken."""
    for endpoint in subscription.endpoints.all():
        if hasattr(endpoint, "health"):
            yield endpoint.health.state, endpoint.health.trial_until
