"""django-outbound-webhooks: events fired in the writer's transaction, sent by relay processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.peers.setup import Setup


def subscribe(url: str) -> None:
    """Register an endpoint."""
    from django_outbound_webhooks import register_endpoint

    secret = "whsec_" + "YmVuY2htYXJrIG9mIHdlYmhvb2tzIG9uIGxvb3BiYWNr"
    register_endpoint(name="benchmark", url=url, secret=secret, event_names=["shop.OrderPlaced"])


def connect() -> None:
    """Declare an event, and fire it with each order that is saved."""
    from django.db.models.signals import post_save
    from django_domain_events import event, fire

    from benchmarks.peers.shop.models import Order

    @event(name="shop.OrderPlaced")
    @dataclass(frozen=True, slots=True)
    class OrderPlaced:
        id: int
        text: str

    def saved(sender: Any, instance: Any, created: bool, **kwargs: Any) -> None:
        if created:
            fire(OrderPlaced(id=instance.pk, text=instance.text))

    post_save.connect(saved, sender=Order, weak=False)


SETUP = Setup(
    distribution="django-outbound-webhooks",
    apps=["django_domain_events", "django_outbound_webhooks"],
    subscribe=subscribe,
    connect=connect,
    settings={"DJANGO_OUTBOUND_WEBHOOKS": {"ALLOW_PRIVATE_ADDRESSES": True}},
    sender="relay",
    relay=("deliver_events",),
)
