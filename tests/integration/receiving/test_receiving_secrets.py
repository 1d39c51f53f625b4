"""Secrets as they are copied, and as they must not be taken: none of it is a stranger's 500."""

from __future__ import annotations

import logging
import time

import pytest
from django.test import Client
from django.urls import clear_url_caches, path

from django_webhooks.exceptions import InvalidSecret
from django_webhooks.receiving import StandardWebhooks, Token, webhook
from tests.senders import BODY, OTHER, SCHEMES, SECRET, standard

# They look at requests: all databases behave alike.
pytestmark = [pytest.mark.django_db, pytest.mark.alike]
handled = []
urlpatterns = []


@pytest.fixture
def ask(settings):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []
    handled.clear()

    def found(name, secrets, **options):
        scheme, make, _ = SCHEMES[name]
        view = webhook(scheme=scheme, secrets=secrets, once=False)(
            lambda request, message: handled.append(message)
        )
        urlpatterns[:] = [path("hook/", view)]
        clear_url_caches()
        return Client().generic(
            "POST",
            "/hook/",
            BODY,
            headers=make(at=int(time.time()), **options),
            secure=True,
            CONTENT_TYPE="application/json",
        )

    yield found
    urlpatterns.clear()


COPIED = {
    "a line break": "{}\n",
    "a line break of Windows": "{}\r\n",
    "spaces": "  {} ",
    "a tab": "\t{}",
}


@pytest.mark.parametrize("form", COPIED.values(), ids=COPIED)
@pytest.mark.parametrize("name", SCHEMES)
def test_white_space_around_a_secret_is_ignored(ask, name, form):
    copied = form.format(SECRET)

    for secrets in (copied, [copied], lambda request: copied, [OTHER, copied]):
        assert ask(name, secrets).status_code == 204
    assert ask(name, form.format(OTHER)).status_code == 401


@pytest.mark.parametrize("name", [one for one in SCHEMES if one != "standard"])
def test_white_space_that_the_sender_has_too(ask, name):
    # A token in a header has none at its end.
    if name != "token":
        assert ask(name, f"{SECRET} ", secret=f"{SECRET} ").status_code == 204


@pytest.mark.parametrize("form", ["v1,{}", " v1,{}\n", "{}"])
def test_the_version_before_a_secret_of_standard_webhooks(ask, form):
    assert ask("standard", form.format(SECRET)).status_code == 204
    assert ask("standard", form.format(OTHER)).status_code == 401


def test_a_public_key_behind_its_version():
    from django_webhooks import signing

    pair = signing.generate_key_pair()
    public = signing.public_key(pair)
    headers = standard(secret=pair)

    for secret in (public, f"v1a,{public}\n"):
        message = StandardWebhooks().verify(
            secrets=[secret], headers=headers, body=BODY, now=1_700_000_000, tolerance=1
        )
        assert message.id == "msg_1"


MALFORMED = ["whsec_", "whsec_%", "v1,whsec_%", "v2,whsec_AAAA", "whpk_AAAA", "hello"]


@pytest.mark.parametrize("secret", MALFORMED)
def test_a_malformed_secret_is_unavailable_and_told_to_the_log(ask, caplog, secret):
    with caplog.at_level(logging.WARNING):
        answer = ask("standard", lambda request: secret)

    assert (answer.status_code, answer.content) == (503, b"secrets\n")
    assert answer["Retry-After"]
    assert "malformed" in caplog.text
    assert secret not in caplog.text.replace("whsec_ followed", "")


@pytest.mark.parametrize("secret", MALFORMED)
def test_a_malformed_one_beside_a_good_one_does_no_harm(ask, secret):
    assert ask("standard", [secret, SECRET]).status_code == 204
    assert ask("standard", [secret, OTHER]).status_code == 401


class Hidden:
    """A secret that shows itself as stars, as those of pydantic do."""

    def __str__(self):
        return "**********"


NO_TEXTS = {
    "bytes": SECRET.encode(),
    "bytes in a list": [SECRET.encode()],
    "an object": Hidden(),
    "an object in a list": [Hidden()],
    "a number": 7,
    "numbers": [7],
    "a mapping": {SECRET: "x"},
}


@pytest.mark.parametrize("secrets", NO_TEXTS.values(), ids=NO_TEXTS)
def test_what_is_no_text_is_refused_where_it_is_written(ask, secrets):
    with pytest.raises(InvalidSecret, match="str"):
        webhook(scheme=Token(), secrets=secrets)
    for guess in (SECRET, "**********", "7", "119"):
        assert ask("token", lambda request: secrets, secret=guess).content == b"secrets\n"
    assert handled == []


@pytest.mark.parametrize("secrets", [None, "", " \n", [], [""], [None], ["", " "]])
@pytest.mark.parametrize("name", SCHEMES)
def test_without_a_secret_nobody_comes_in(ask, name, secrets):
    answer = ask(name, lambda request: secrets)

    assert (answer.status_code, answer.content) == (503, b"secrets\n")
