"""Settings from environment variables: each of its own type, and what cannot be read is named."""

from __future__ import annotations

import environ
import pytest
from django.core.exceptions import ImproperlyConfigured

from django_webhooks import environment
from django_webhooks.conf import Settings

NAMES = [name for name in vars(Settings) if name.startswith("WEBHOOKS_")]


class Fixed(environ.Env):
    """An environment that a test makes."""


def read(**variables):
    env = Fixed()
    env.ENVIRON = variables
    return environment.read(env)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("WEBHOOKS_REQUIRE_HTTPS", "off", False),
        ("WEBHOOKS_METRICS", "True", True),
        ("WEBHOOKS_MAX_IN_FLIGHT", "50", 50),
        ("WEBHOOKS_TIMEOUT_SECONDS", "7.5", 7.5),
        ("WEBHOOKS_PROXY_URL", "http://proxy:4750", "http://proxy:4750"),
        ("WEBHOOKS_ENCRYPTION_KEYS", "YQ==,Yg==", ["YQ==", "Yg=="]),
        ("WEBHOOKS_ALLOWED_NETWORKS", "", []),
        ("WEBHOOKS_ALLOWED_PORTS", "443,8443", [443, 8443]),
        ("WEBHOOKS_ALLOWED_PORTS", "none", None),
        ("WEBHOOKS_RATE_LIMIT_PER_SECOND", "2.5", 2.5),
        ("WEBHOOKS_RATE_LIMIT_PER_SECOND", "None", None),
        ("WEBHOOKS_RETENTION_DAYS", '{"succeeded": 7, "given_up": null}', None),
        ("WEBHOOKS_NOTIFY", "ann@example.com,bob@example.com", None),
        ("WEBHOOKS_NOTIFY", "shop.mail.recipients", "shop.mail.recipients"),
        ("WEBHOOKS_ADMIN_SCOPE", "shop.admin.scope", "shop.admin.scope"),
        ("WEBHOOKS_SEND_TRACEPARENT", "yes", True),
        ("WEBHOOKS_SEND_TRACEPARENT", "shop.tracing.is_ours", "shop.tracing.is_ours"),
    ],
)
def test_a_variable_is_read_as_the_type_of_its_setting(name, text, value):
    if name == "WEBHOOKS_RETENTION_DAYS":
        value = {"succeeded": 7, "given_up": None}
    if "@" in text:
        value = text.split(",")

    found = read(**{name: text})

    assert found == {name: value}
    assert type(found[name]) is type(value)


@pytest.mark.parametrize("name", NAMES)
def test_each_setting_can_be_read(name):
    default = vars(Settings)[name]
    texts = {bool: str(default), dict: "{}", tuple: "", type(None): "none"}

    found = read(**{name: texts.get(type(default), str(default))})

    assert found == {name: [] if default == () else {} if isinstance(default, dict) else default}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("WEBHOOKS_TIMEOUT_SECONDS", "soon"),
        ("WEBHOOKS_MAX_IN_FLIGHT", "1.5"),
        ("WEBHOOKS_REQUIRE_HTTPS", "maybe"),
        ("WEBHOOKS_ALLOWED_PORTS", "https"),
        ("WEBHOOKS_RETENTION_DAYS", "{"),
    ],
)
def test_what_cannot_be_read_is_named(name, text):
    with pytest.raises(ImproperlyConfigured, match=name):
        read(**{name: text})


@pytest.mark.parametrize("name", ["WEBHOOKS_TIMEOUTS", "WEBHOOKS_TIMEOUT"])
def test_a_slip_in_a_name_is_told(name):
    with pytest.raises(ImproperlyConfigured, match=r"did you mean WEBHOOKS_TIMEOUT_SECONDS"):
        read(**{name: "3"})


def test_variables_of_others_are_left_alone():
    assert read(WEBHOOKS_SERVICE_HOST="10.0.0.1", WEBHOOKS_REQUIRE_SERVICES="1", PATH="/") == {}


def test_without_an_environment_it_is_that_of_the_process(monkeypatch):
    monkeypatch.setenv("WEBHOOKS_TIMEOUT_SECONDS", "9")

    assert environment.read()["WEBHOOKS_TIMEOUT_SECONDS"] == 9.0
