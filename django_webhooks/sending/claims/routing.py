"""Routes: where the deliveries of a subscription go now, and the job that a leased one makes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from django.db import DatabaseError
from django.db.models import Q

from ... import times
from ...models import Delivery, Endpoint, EndpointHealth, Subscription
from ...models.switch import choose
from ...policies import health
from ...policies.failover import Mode
from ...policies.retry import RetryPolicy
from ..attempts import Job
from ..database import loaders

logger = logging.getLogger("django_webhooks.sending")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The endpoint to use, if any, and the one that may be tried with a single delivery.

    ``why`` says why the traffic goes to a backup. ``endpoint_count`` is how many endpoints one
    round of attempts has: more than one where each attempt that fails goes to the next. A route
    that ``is_own`` is that of one delivery, and says nothing of the others of its subscription.
    """

    endpoint: Endpoint | None = None
    trial: Endpoint | None = None
    why: str = ""
    endpoint_count: int = 1
    is_own: bool = False


def of(subscription: Subscription, delivery: Delivery) -> Route:
    """Return where the delivery goes now; the subscription was loaded by the module ``loaders``."""
    candidates = [one.health for one in subscription.endpoints.all() if hasattr(one, "health")]
    usable = sorted(
        (candidate for candidate in candidates if candidate.endpoint.is_usable),
        key=lambda one: one.endpoint.position,
    )
    chosen = next((one for one in usable if one.endpoint_id == delivery.endpoint_id), None)
    is_pinned = any(one.endpoint.is_pinned for one in usable)
    if chosen is not None and delivery.replay:
        return Route(endpoint=chosen.endpoint, why="chosen", is_own=True)
    if chosen is not None and chosen.is_callable and not is_pinned:
        # Out of turn, because another endpoint did not take it.
        return Route(endpoint=chosen.endpoint, why=delivery.reason, is_own=True)
    if subscription.failover == Mode.EACH and not is_pinned:
        if not usable:
            return Route(is_own=True)
        candidate = usable[delivery.attempts_made % len(usable)]
        return Route(
            endpoint=candidate.endpoint,
            why=delivery.reason,
            endpoint_count=len(usable),
            is_own=True,
        )
    # The flag rather than the choice: the row says what was decided and recorded.
    active = next((candidate for candidate in usable if candidate.is_active), None)
    on_trial = choose(subscription, usable).trial
    trial = next(
        (candidate for candidate in usable if on_trial and on_trial.key == candidate.endpoint_id),
        None,
    )
    return Route(
        endpoint=active.endpoint if active else None,
        trial=trial.endpoint if trial else None,
        why=_why(active, candidates),
    )


def refresh(subscriptions: Collection[UUID], *, using: str) -> dict[UUID, Subscription]:
    """Return these subscriptions with their endpoints as they are now."""
    return loaders.subscriptions(subscriptions, using=using)


def is_readable(subscription: Subscription, endpoint: Endpoint, *, now: datetime) -> bool:
    """Say whether all that a request needs opens with the encryption keys there are."""
    return endpoint.is_readable and all(key.is_readable for key in subscription.keys_at(now))


def claim_trial(endpoint: Endpoint, *, now: datetime, until: datetime, using: str) -> bool:
    """Take the right to try an endpoint with one delivery until a moment; say whether it was.

    Only in the trial that the caller knows of: of another one its result would tell nothing.
    """
    rows = EndpointHealth.objects.using(using).filter(
        pk=endpoint.pk, state=EndpointHealth.State.TRIAL, since=endpoint.health.since
    )
    # A trial that ends later than a lease can was written before a clock was set back.
    free = Q(trial_until__isnull=True) | Q(trial_until__lte=now) | Q(trial_until__gt=until)
    return rows.filter(free).update(trial_until=until) == 1


def end_trial(endpoint: Endpoint, *, using: str) -> None:
    """Let another delivery try the endpoint; this one did not, or what it brought tells nothing."""
    EndpointHealth.objects.using(using).filter(pk=endpoint.pk).update(trial_until=None)


def _why(active: EndpointHealth | None, candidates: list[EndpointHealth]) -> str:
    if active is None or active.endpoint.role == "primary":
        return ""
    if active.endpoint.is_pinned:
        return "pinned"
    earlier = min(candidates, key=lambda one: one.endpoint.position)
    if not earlier.endpoint.is_usable:
        return "disabled"
    return earlier.reason or earlier.state


def note_unreadable(
    subscriptions: Collection[UUID], *, using: str, now: datetime | None = None
) -> None:
    """Remember that deliveries wait because URLs or keys do not open, and log it once."""
    rows = Subscription.objects.using(using).filter(
        pk__in=list(subscriptions), unreadable_since__isnull=True
    )
    for key in list(rows.values_list("pk", flat=True)):
        if rows.filter(pk=key).update(unreadable_since=now or times.now()):
            logger.error(
                "What subscription %s needs cannot be decrypted; its deliveries wait. "
                "See 'manage.py webhooks_reencrypt --dry-run'.",
                key,
                extra={"webhooks_subscription": str(key)},
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What becomes of the deliveries of a lease: poison are those that raise."""

    jobs: list[Job] = field(default_factory=list)
    held: list[Delivery] = field(default_factory=list)
    poison: list[Delivery] = field(default_factory=list)


class Planner:
    """Makes jobs of the deliveries of one lease."""

    def __init__(self, *, clock: Callable[[], datetime], until: datetime, using: str) -> None:
        self.clock, self.until, self.using = clock, until, using
        self._policies: dict[UUID, RetryPolicy] = {}
        self._routes: dict[UUID, Route] = {}
        self._readable: dict[UUID, bool] = {}

    @property
    def unreadable(self) -> set[UUID]:
        """Subscriptions whose URLs or keys do not open."""
        return {key for key, is_readable in self._readable.items() if not is_readable}

    def plan_all(self, deliveries: Iterable[Delivery]) -> Planned:
        """Plan each of these deliveries. Raise DatabaseError where the database does not answer."""
        planned = Planned()
        for delivery in deliveries:
            try:
                job = self.plan(delivery)
            except DatabaseError:
                raise
            except Exception:  # One bad row must not stop its neighbours.
                logger.exception("Delivery %s cannot be planned.", delivery.pk)
                planned.poison.append(delivery)
                continue
            if job is None:
                planned.held.append(delivery)
            else:
                planned.jobs.append(job)
        return planned

    def plan(self, delivery: Delivery) -> Job | None:
        """Return what to do with a delivery, or None where it is held."""
        subscription = delivery.subscription
        if subscription is None or not subscription.is_active:
            return None
        route = self._route(subscription, delivery)
        if not self._is_readable(subscription, route):
            return None
        is_trial = (
            route.trial is not None
            and _may_try(delivery, route)
            and self._claims(subscription, route.trial)
        )
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
            endpoint_count=route.endpoint_count,
            is_trial=is_trial,
        )

    def _route(self, subscription: Subscription, delivery: Delivery) -> Route:
        route = None if delivery.endpoint_id else self._routes.get(subscription.pk)
        if route is None:
            route = of(subscription, delivery)
            if not route.is_own:
                self._routes[subscription.pk] = route
        return route

    def _is_readable(self, subscription: Subscription, route: Route) -> bool:
        if self._readable.get(subscription.pk) is not True or route.is_own:
            self._readable[subscription.pk] = all(
                is_readable(subscription, endpoint, now=self.clock())
                for endpoint in (route.endpoint, route.trial)
                if endpoint is not None
            )
        return self._readable[subscription.pk]

    def _claims(self, subscription: Subscription, trial: Endpoint) -> bool:
        # Whether it is claimed or not, there is none for the others of this lease.
        self._routes[subscription.pk] = replace(self._routes[subscription.pk], trial=None)
        return claim_trial(trial, now=self.clock(), until=self.until, using=self.using)


def _may_try(delivery: Delivery, route: Route) -> bool:
    """Say whether a delivery tells enough of the endpoint on trial.

    Where refusals made it fall, one that was refused before may be refused for what it says. Where
    nothing else is sent anywhere, it is tried nevertheless.
    """
    if route.endpoint is None or route.trial is None or not delivery.attempts_made:
        return True
    return not health.is_refusal(route.trial.health.reason)
