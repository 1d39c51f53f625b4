"""What can go wrong, as a tree that callers already know."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime

import pytest
from django.core.exceptions import SuspiciousOperation
from django.http import HttpResponse
from django.test import RequestFactory, override_settings
from django.urls import path

from django_webhooks import exceptions, guarded, signing
from django_webhooks.exceptions import WebhooksError

MOMENT = datetime(2026, 1, 31, 12, tzinfo=UTC)


def receive(request):
    """Answer a webhook that is verified."""
    signing.verify(secrets=["x"], headers=request.headers, body=request.body)
    return HttpResponse(status=204)


urlpatterns = [path("hook", receive)]


@pytest.mark.parametrize(
    ("error", "parent"),
    [
        (exceptions.PayloadError, ValueError),
        (exceptions.PayloadTooLarge, exceptions.PayloadError),
        (exceptions.UnknownEventType, LookupError),
        (exceptions.InvalidSecret, ValueError),
        (exceptions.VerificationFailed, SuspiciousOperation),
        (exceptions.RetryLater, exceptions.WebhooksError),
    ],
)
def test_an_error_is_one_of_ours_and_one_that_callers_know(error, parent):
    assert issubclass(error, exceptions.WebhooksError)
    assert issubclass(error, parent)


def test_a_later_moment_is_told_and_survives_a_broker():
    error = exceptions.RetryLater(MOMENT)

    assert str(error) == "next attempt at 2026-01-31T12:00:00+00:00"
    assert pickle.loads(pickle.dumps(error)).at == MOMENT


@override_settings(ROOT_URLCONF=__name__)
def test_django_answers_a_request_that_does_not_verify_with_400(client):
    response = client.post("/hook", b"{}", content_type="application/json")

    assert response.status_code == 400


def test_no_failed_verification_is_a_value_error():
    request = RequestFactory().post("/hook", b"{}", content_type="application/json")

    with pytest.raises(exceptions.VerificationFailed) as caught:
        receive(request)

    assert not isinstance(caught.value, ValueError)


def test_all_errors_are_in_one_tree_and_say_when_they_are_raised():
    ours = [WebhooksError, *below(WebhooksError)]

    assert {one.__name__ for one in ours if one.__module__ == exceptions.__name__} == set(
        exceptions.__all__
    )
    elsewhere = {one for one in ours if one.__module__ != exceptions.__name__}
    assert elsewhere == {guarded.NotAllowed, guarded.TooLarge}
    assert [one.__name__ for one in ours if one.__name__ not in exceptions.__doc__] == []
    assert [one.__name__ for one in ours[1:] if not one.__doc__.startswith("Raised ")] == []


def below(error):
    """All errors of the package that derive from one, of every module that tests import."""
    return [
        found
        for one in error.__subclasses__()
        if one.__module__.startswith("django_webhooks")
        for found in (one, *below(one))
    ]
