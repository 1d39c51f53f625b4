"""Senders: the headers that each of them puts beside a body, as its documentation says."""

from __future__ import annotations

import base64
import hashlib
import hmac

from django_webhooks import signing
from django_webhooks.receiving import (
    BodyHmac,
    GitHub,
    Shopify,
    Slack,
    StandardWebhooks,
    Stripe,
    Token,
)

NOW = 1_700_000_000
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
BODY = b'{"id":"evt_1","type":"order.paid","data":{"total":"19.90"}}'


def digest(key: str, signed: bytes) -> bytes:
    return hmac.new(key.encode(), signed, hashlib.sha256).digest()


def standard(body=BODY, secret=SECRET, at=NOW, message_id="msg_1"):
    signature = signing.sign(secret=secret, message_id=message_id, timestamp=at, body=body)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": signature,
    }


def github(body=BODY, secret=SECRET, at=NOW):
    return {
        "x-hub-signature-256": f"sha256={digest(secret, body).hex()}",
        "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
    }


def stripes(body=BODY, secret=SECRET, at=NOW):
    signed = f"{at}.".encode() + body
    return {"stripe-signature": f"t={at},v1={digest(secret, signed).hex()},v0=00"}


def slack(body=BODY, secret=SECRET, at=NOW):
    signed = f"v0:{at}:".encode() + body
    return {
        "x-slack-request-timestamp": str(at),
        "x-slack-signature": f"v0={digest(secret, signed).hex()}",
    }


def shopify(body=BODY, secret=SECRET, at=NOW):
    return {
        "x-shopify-hmac-sha256": base64.b64encode(digest(secret, body)).decode(),
        "x-shopify-webhook-id": "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043",
    }


def by_hmac(body=BODY, secret=SECRET, at=NOW):
    return {"x-signature": f"sha256={digest(secret, body).hex()}"}


def token(body=BODY, secret=SECRET, at=NOW):
    return {"authorization": f"Bearer {secret}"}


#: A scheme, what its sender makes, and the header that holds the proof.
SCHEMES = {
    "standard": (StandardWebhooks(), standard, "webhook-signature"),
    "github": (GitHub(), github, "x-hub-signature-256"),
    "stripe": (Stripe(), stripes, "stripe-signature"),
    "slack": (Slack(), slack, "x-slack-signature"),
    "shopify": (Shopify(), shopify, "x-shopify-hmac-sha256"),
    "hmac": (BodyHmac(header="X-Signature", prefix="sha256="), by_hmac, "x-signature"),
    "token": (Token(), token, "authorization"),
}
