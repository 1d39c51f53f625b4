"""Signed requests, which projects test their receivers with."""

from __future__ import annotations

import pytest
from django.http import HttpRequest, HttpResponse
from django.urls import path

from django_webhooks import signing
from django_webhooks.exceptions import InvalidSecret, PayloadError, VerificationFailed
from django_webhooks.testing import signed_request
from tests import factories


def receive(request: HttpRequest) -> HttpResponse:
    signing.verify(secrets=[factories.SECRET], headers=request.headers, body=request.body)
    return HttpResponse(request.headers["webhook-id"])


urlpatterns = [path("hook", receive)]


def test_a_signed_request_is_what_a_view_takes():
    request = signed_request("order.paid", {"id": 1}, secret=factories.SECRET)

    response = receive(request.as_django("/hook"))

    assert response.content.decode() == request.headers["webhook-id"]


@pytest.mark.urls(__name__)
def test_a_signed_request_is_sent_with_the_test_client(client):
    request = signed_request("order.paid", {}, secret=factories.SECRET, message_id="msg_1")

    response = request.post(client, "/hook")

    assert response.content == b"msg_1"
    assert request.payload["type"] == "order.paid"


def test_a_signed_request_can_be_old():
    request = signed_request("any.type", {}, secret=factories.SECRET, timestamp=1)

    with pytest.raises(VerificationFailed, match="more than the 300 that are taken"):
        receive(request.as_django())


def test_a_request_is_not_signed_with_a_malformed_secret():
    with pytest.raises(InvalidSecret):
        signed_request("order.paid", {}, secret="whsec_short")


def test_data_that_cannot_be_sent_is_refused():
    with pytest.raises(PayloadError):
        signed_request("order.paid", {"id": object()}, secret=factories.SECRET)
