"""What people may enter."""

from __future__ import annotations

from contextlib import suppress

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from django_webhooks import validators
from django_webhooks.signing import generate_secret


@pytest.fixture(autouse=True)
def _https(settings):
    settings.WEBHOOKS_REQUIRE_HTTPS = True


MALFORMED = {"form", "host", "name", "port"}


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook",
        "https://example.com:8443/hook?key=1",
        "https://[2606:4700::1111]/",
        "HTTPS://EXAMPLE.COM/",
        "https://example.com:/",
        "https://under_score.example.com/",
        "https://example.com/" + "a" * 2028,
    ],
)
def test_urls(url):
    validators.validate_endpoint_url(url)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://example.com/", "https"),
        ("https://user:pass@example.com/", "userinfo"),
        ("https://example.com/#part", "fragment"),
        ("https://example.com/a b", "characters"),
        ("https://example.com/\n", "characters"),
        ("https://example.com\\@127.0.0.1/", "characters"),
        ("https:///hook", "invalid"),
        ("//example.com/", "invalid"),
        ("example.com/hook", "invalid"),
        ("ftp://example.com/", "invalid"),
        ("", "invalid"),
        ("https://example.com:0/", "invalid"),
        ("https://example.com:65536/", "invalid"),
        ("https://[::1/", "invalid"),
        ("https://example.com:-1/", "invalid"),
        ("https://example.com:abc/", "invalid"),
        ("https:/example.com", "invalid"),
        ("/hook", "invalid"),
        ("file:///etc/passwd", "invalid"),
        ("javascript:alert(1)", "invalid"),
        ("data:text/plain,a", "invalid"),
        ("https://example.com@127.0.0.1/", "userinfo"),
        ("https://@example.com/", "userinfo"),
        ("https://example.com#@127.0.0.1/", "fragment"),
        ("https://example.com/#", "fragment"),
        ("https:\\\\127.0.0.1\\", "characters"),
        (" https://example.com/", "characters"),
        ("https://exam\tple.com/", "characters"),
        ("https://example.com/\x00", "characters"),
        ("https://example.com/\x7f", "characters"),
        ("https://example.com/" + "x" * 2029, "length"),
    ],
)
def test_urls_that_are_refused(url, code):
    with pytest.raises(ValidationError) as caught:
        validators.validate_endpoint_url(url)

    assert caught.value.code in (MALFORMED if code == "invalid" else {code})


def test_http_may_be_allowed(settings):
    settings.WEBHOOKS_REQUIRE_HTTPS = False

    validators.validate_endpoint_url("http://example.com/")


def test_headers():
    validators.validate_headers({"X-Team": "crm", "x_y": ""})


@pytest.mark.parametrize(
    "headers",
    [
        [],
        "x: y",
        None,
        {"": "x"},
        {"a:": "x"},
        {"a\n": "x"},
        {"ä": "x"},
        {"Cookie": "x"},
        {"Content-Type": "x"},
        {"User-Agent": "x"},
        {"X": "a\n"},
        {"X": None},
        {"a b": "x"},
        {5: "x"},
        {"Host": "x"},
        {"Content-Length": "1"},
        {"Transfer-Encoding": "chunked"},
        {"Connection": "close"},
        {"Upgrade": "h2c"},
        {"TE": "trailers"},
        {"Trailer": "x"},
        {"Expect": "100-continue"},
        {"Keep-Alive": "timeout=9"},
        {"Proxy-Authorization": "Basic x"},
        {"Proxy-Connection": "close"},
        {"Accept-Encoding": "gzip"},
        {"webhook-signature": "x"},
        {"Authorization": "x"},
        {"X": "a\r\nb: c"},
        {"X": "a\x00"},
        {"X": "€"},
        {"X": 5},
    ],
)
def test_headers_that_are_refused(headers):
    with pytest.raises(ValidationError):
        validators.validate_headers(headers)


def test_secrets():
    validators.validate_secret(generate_secret())
    with pytest.raises(ValidationError, match="base64"):
        validators.validate_secret("whsec_%")


@pytest.mark.parametrize(
    ("validate", "value"),
    [
        (validators.validate_headers, {"x-key": "hush-hush\n"}),
        (validators.validate_header_value, "hush-hush\n"),
        (validators.validate_secret, "whsec_hush-hush"),
    ],
)
def test_an_error_does_not_quote_a_secret(validate, value):
    with pytest.raises(ValidationError) as caught:
        validate(value)

    assert "hush" not in str(caught.value)


def test_patterns():
    validators.validate_pattern("order.*")
    with pytest.raises(ValidationError, match="matches no event type"):
        validators.validate_pattern("*.paid")


@given(st.text())
def test_no_text_is_another_error(text):
    for url in (text, f"https://{text}", f"https://example.com/{text}"):
        with suppress(ValidationError):
            validators.validate_endpoint_url(url)


@given(st.text())
def test_a_header_value_that_passes_can_be_sent(text):
    try:
        validators.validate_header_value(text)
    except ValidationError:
        return

    assert not {0, 10, 13} & set(text.encode("latin-1"))


@pytest.mark.parametrize("rate", [1e-6, 0.5, 1e9])
def test_rates(rate):
    validators.validate_rate(rate)


@pytest.mark.parametrize(
    ("rate", "code"),
    [
        (0.0, "not_positive"),
        (-1.0, "not_positive"),
        (float("inf"), "not_positive"),
        (float("nan"), "not_positive"),
        (9e-7, "too_small"),
    ],
)
def test_what_is_no_rate(rate, code):
    with pytest.raises(ValidationError) as caught:
        validators.validate_rate(rate)

    assert caught.value.code == code


@pytest.mark.parametrize("seconds", [0.001, 30.0, validators.LONGEST_SECONDS])
def test_times(seconds):
    validators.validate_seconds(seconds)


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (0.0, "not_positive"),
        (float("nan"), "not_positive"),
        (float("inf"), "not_positive"),
        (validators.LONGEST_SECONDS + 1, "too_large"),
    ],
)
def test_what_is_no_time(seconds, code):
    with pytest.raises(ValidationError) as caught:
        validators.validate_seconds(seconds)

    assert caught.value.code == code
