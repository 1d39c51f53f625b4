"""Planning: the job that a leased delivery makes, or that it is held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from ..models import Delivery, Endpoint, Subscription
from ..policies.retry import RetryPolicy
from . import routes
from .attempt import Job


class Planner:
    """Makes jobs of the deliveries of one lease."""

    def __init__(self, *, clock: Callable[[], datetime], until: datetime, using: str) -> None:
        self.clock, self.until, self.using = clock, until, using
        self._policies: dict[UUID, RetryPolicy] = {}
        self._routes: dict[UUID, routes.Route] = {}
        self._readable: dict[UUID, bool] = {}

    @property
    def unreadable(self) -> set[UUID]:
        """Subscriptions whose URLs or keys do not open."""
        return {key for key, is_readable in self._readable.items() if not is_readable}

    def plan(self, delivery: Delivery) -> Job | None:
        """Return what to do with a delivery, or None where it is held."""
        subscription = delivery.subscription
        if subscription is None or not subscription.is_active:
            return None
        route = self._route(subscription, delivery)
        if not self._is_readable(subscription, route):
            return None
        is_trial = route.trial is not None and self._claims(subscription, route.trial)
        endpoint = route.trial if is_trial else route.endpoint
        if endpoint is None:
            return None
        if subscription.pk not in self._policies:
            self._policies[subscription.pk] = subscription.retry_policy
        return Job(
            delivery=delivery,
            subscription=subscription,
            endpoint=endpoint,
            policy=self._policies[subscription.pk],
            why=route.why,
            doors=route.doors,
            is_trial=is_trial,
        )

    def _route(self, subscription: Subscription, delivery: Delivery) -> routes.Route:
        route = None if delivery.endpoint_id else self._routes.get(subscription.pk)
        if route is None:
            route = routes.of(subscription, delivery)
            if not route.is_own:
                self._routes[subscription.pk] = route
        return route

    def _is_readable(self, subscription: Subscription, route: routes.Route) -> bool:
        if self._readable.get(subscription.pk) is not True or route.is_own:
            self._readable[subscription.pk] = all(
                routes.is_readable(subscription, endpoint, now=self.clock())
                for endpoint in (route.endpoint, route.trial)
                if endpoint is not None
            )
        return self._readable[subscription.pk]

    def _claims(self, subscription: Subscription, trial: Endpoint) -> bool:
        # Whether it is claimed or not, there is none for the others of this lease.
        self._routes[subscription.pk] = replace(self._routes[subscription.pk], trial=None)
        return routes.claim_trial(trial, now=self.clock(), until=self.until, using=self.using)
