"""What is wrong with how it runs: tasks that do not, and what system checks say."""

from __future__ import annotations

from collections.abc import Iterator

from django.core import checks
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...models import Subscription
from ...sending import statistics
from ..finding import Scene, Severity, Told, rule
from .endpoints import when

#: Checks that say what a rule says with more to it.
TOLD_ELSEWHERE = frozenset({"webhooks.W004", "webhooks.W006"})


@rule(
    "webhooks.A018",
    Severity.WARNING,
    gettext_lazy("Do what the check says, or silence it: docs/reference/checks.md."),
)
def system_checks(scene: Scene) -> Iterator[Told]:
    """Yield what Django's system checks say of webhooks, those for production as well."""
    found = checks.run_checks(tags=["webhooks"], include_deployment_checks=True)
    for one in found:
        if one.is_silenced() or one.id in TOLD_ELSEWHERE or one.level < checks.WARNING:
            continue
        yield Told(
            subject=f"check:{one.id}",
            sentence=f"{one.id}: {one.msg} {one.hint or ''}".strip(),
            severity=Severity.SEVERE if one.level >= checks.ERROR else None,
        )


@rule(
    "webhooks.A024",
    Severity.SEVERE,
    gettext_lazy("Start beat, and a worker for the queue of the webhooks: docs/howto/celery.md."),
)
def not_running(scene: Scene) -> Iterator[Told]:
    """Yield tasks of beat that have not run for too long, where there is work for them."""
    if not Subscription.objects.using(scene.using).exists():
        return
    for one in statistics.lives(now=scene.now, using=scene.using):
        if not one.is_alive:
            yield Told(
                subject=f"task:{one.name}",
                sentence=_("The task %(name)s has not run since %(when)s.")
                % {"name": one.name, "when": when(one.at)},
            )
