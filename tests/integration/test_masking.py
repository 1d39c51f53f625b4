"""What an answer repeats of our secrets is not stored: paths, queries, credentials."""

from __future__ import annotations

import json

import pytest

from django_webhooks.models import Attempt, Endpoint
from django_webhooks.sending import dispatch, masking
from tests import factories
from tests.receivers import Answer, receiving

pytestmark = pytest.mark.django_db
PATH = "/hooks/planted-path-7f3a?token=planted%2Dquery-91"
SECRETS = {
    "authorization": "Bearer planted-token",
    "headers": {"X-Key": "planted-header"},
}


def stored(answer, **fields):
    """What is kept of an answer, as one text."""
    with receiving(answer) as receiver:
        delivery = factories.delivery(receiver.url.replace("/hook", PATH))
        endpoint = Endpoint.objects.get()
        for name, value in {**SECRETS, **fields}.items():
            setattr(endpoint, name, value)
        endpoint.save()
        dispatch.drain([delivery.pk], clock=factories.Clock())
    found = Attempt.objects.get()
    return found, json.dumps(
        [found.detail, found.response_headers, found.response_body], ensure_ascii=False
    )


def test_a_redirect_to_the_same_path_does_not_tell_it():
    where = f"https://example.com{PATH.replace('?', '/?')}"

    found, text = stored(Answer(301, {"Location": where}))

    assert found.detail == "Redirects are not followed; it names https://example.com…/?…"
    assert "planted" not in text


@pytest.mark.parametrize("status", [200, 404])
def test_a_page_that_quotes_the_request_does_not_tell_it(status):
    page = f"Cannot POST {PATH} or planted-query-91, Bearer planted-token planted-header; a pity."

    found, text = stored(Answer(status, {"X-Echo": page}, page.encode()))

    assert "planted" not in text
    assert found.response_body == "Cannot POST … or …, … …; a pity."


def test_no_half_of_a_secret_is_left_where_the_body_is_cut(settings):
    settings.WEBHOOKS_RESPONSE_EXCERPT_BYTES = 10

    found, text = stored(Answer(500, body=b"12345 planted-token and more"))

    assert found.response_body == "12345 … "
    assert "plant" not in text


def test_short_words_are_left_as_they_are():
    found, _ = stored(Answer(500, body=b"no hooks here"), headers={"X-Key": "here"})

    assert found.response_body == "no hooks here"


def test_what_is_no_text_is_kept_as_before():
    found, _ = stored(Answer(500, body=b"\xff\x00planted-token\xfe"))

    assert found.response_body == "\ufffd\ufffd…\ufffd"


@pytest.mark.parametrize(
    ("url", "headers"),
    [("https://[::1/planted-path", {}), ("planted", []), ("", {"X": 5}), ("", "x" * 20)],
)
def test_whatever_an_old_row_holds_nothing_is_raised(url, headers):
    found = masking.secrets_of(Endpoint(url=url, headers=headers))

    assert isinstance(masking.mask("text", found), str)
