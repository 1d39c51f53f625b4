"""django-signal-webhooks: a thread of the saving process for each saved object."""

from __future__ import annotations

from benchmarks.peers.setup import Setup


def subscribe(url: str) -> None:
    """Make the row that its admin would make."""
    from signal_webhooks.models import Webhook

    Webhook.objects.create(
        name="benchmark", signal="CREATE", ref="benchmarks.peers.shop.models.Order", endpoint=url
    )


SETUP = Setup(
    distribution="django-signal-webhooks",
    apps=["signal_webhooks"],
    subscribe=subscribe,
    settings={
        "SIGNAL_WEBHOOKS": {
            "HOOKS": {"benchmarks.peers.shop.models.Order": ...},
            "CIPHER_KEY": "YmVuY2htYXJrcyBvbmx5ISE=",
        }
    },
    sender="threads",
)
