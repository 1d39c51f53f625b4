"""System checks: what is reported, by which id, and that nothing else is."""

from __future__ import annotations

import re
from pathlib import Path

import certifi
import pytest
from django.apps import apps
from django.core.checks import run_checks
from django.test import override_settings

from django_webhooks import checks, encryption, tasks
from django_webhooks.checks import values
from django_webhooks.conf import Settings

ACTING = "django_webhooks.middleware.acting"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"

NAN = float("nan")
KEY, OTHER_KEY = encryption.generate_key(), encryption.generate_key()


@pytest.fixture(autouse=True)
def _nothing_opened():
    """The settings of the tests open loopback."""
    with override_settings(WEBHOOKS_ALLOWED_NETWORKS=[]):
        yield


def reported(*, deploy: bool = False, **settings: object) -> set[str]:
    with override_settings(**settings):
        return {one.id for one in run_checks(tags=["webhooks"], include_deployment_checks=deploy)}


@pytest.fixture
def no_celery(monkeypatch, settings):
    """Celery as it is where nobody configured it."""
    for name in ("beat_schedule", "task_routes"):
        monkeypatch.setitem(tasks.deliver.app.conf, name, {})
        setattr(settings, f"CELERY_{name.upper()}", {})


def test_nothing_is_reported_about_the_defaults():
    assert reported() == set()
    assert reported(deploy=True, WEBHOOKS_REQUIRE_HTTPS=True) == set()


def test_each_setting_has_a_rule():
    names = [name for name in vars(Settings) if name.startswith("WEBHOOKS_")]

    assert sorted(rule.setting for rule in values.RULES) == sorted(names)


def test_each_id_is_used_once():
    sources = Path(checks.__file__).parent.glob("*.py")
    ids = re.findall(r"webhooks\.[EW]\d{3}", "".join(path.read_text() for path in sources))

    assert len(ids) == len(set(ids)) >= len(values.RULES)


BOOLEANS = ["yes", 1, None]
COUNTS = [0, -1, 1.5, "10", True, None]
POSITIVE = [0, -0.5, "5", True, None, NAN, float("inf")]
NOT_NEGATIVE = [-1, "5", True, None, NAN]


@pytest.mark.parametrize(
    ("setting", "id", "bad", "good"),
    [
        ("AUTODISCOVER_MODULE", "E001", ["", "a-b", "a..b", None], ["hooks", "api.hooks"]),
        ("ALLOW_UNKNOWN_EVENT_TYPES", "E002", BOOLEANS, [True, False]),
        ("MAX_PAYLOAD_BYTES", "E003", COUNTS, [1]),
        ("RATE_LIMIT", "E067", [0, -1, "1", True, NAN, float("inf")], [None, 0.5, 20]),
        ("MAX_IN_FLIGHT_PER_SUBSCRIPTION", "E068", [0, -1, 1.5, "1", True], [None, 1, 3]),
        ("LISTENER_CACHE_SECONDS", "E004", NOT_NEGATIVE, [0, 0.5, 60]),
        ("REQUIRE_HTTPS", "E005", BOOLEANS, [True, False]),
        ("TIMEOUT", "E006", POSITIVE, [0.5, 30]),
        ("MAX_RESPONSE_BYTES", "E007", COUNTS, [1]),
        ("RESPONSE_EXCERPT_BYTES", "E008", [-1, 1.5, "1", None], [0, 10]),
        ("LEASE_SECONDS", "E009", POSITIVE, [30.5, 300]),
        ("BATCH_SIZE", "E010", COUNTS, [1]),
        ("MAX_IN_FLIGHT", "E011", COUNTS, [1]),
        ("MAX_IN_FLIGHT_PER_ENDPOINT", "E012", COUNTS, [1]),
        ("DRAIN_SECONDS", "E013", POSITIVE, [0.5]),
        ("RETRY_ATTEMPTS", "E014", COUNTS, [1]),
        ("RETRY_BASE", "E015", POSITIVE, [0.5]),
        ("RETRY_FACTOR", "E016", [0.9, 0, "2", None, NAN], [1, 2.5]),
        ("RETRY_CAP", "E017", POSITIVE, [1]),
        ("RETRY_JITTER", "E018", [-0.1, 1, 1.5, "0.2", None, NAN], [0, 0.99]),
        ("RETRY_AFTER_CAP", "E019", NOT_NEGATIVE, [0, 60]),
        ("EVENT_MAX_AGE", "E020", POSITIVE, [60]),
        ("CELERY_HORIZON", "E021", NOT_NEGATIVE, [0, 60]),
        (
            "RETENTION_DAYS",
            "E022",
            [None, 30, {"waiting": 1}, {"succeeded": -1}, {"succeeded": "30"}, {"gone": 1}],
            [{}, {"succeeded": None}, {"given_up": 0.5, "cancelled": 7}],
        ),
        ("HEALTH_FALL", "E024", COUNTS, [1]),
        ("HEALTH_RISE", "E025", COUNTS, [1]),
        ("HEALTH_WINDOW", "E026", POSITIVE, [0.5]),
        ("HEALTH_WINDOW_ATTEMPTS", "E027", COUNTS, [1]),
        ("HEALTH_WINDOW_SHARE", "E028", [0, 1.1, "0.5", None, NAN], [0.01, 1]),
        ("HEALTH_HOLD", "E029", POSITIVE, [1]),
        ("HEALTH_HOLD_CAP", "E030", POSITIVE, [1]),
        ("PROBE_INTERVAL", "E031", POSITIVE, [1]),
        ("PROBE_INTERVAL_UNHEALTHY", "E032", POSITIVE, [1]),
        ("PROBE_TIMEOUT", "E033", POSITIVE, [0.5]),
        ("PROBES_IN_FLIGHT", "E034", COUNTS, [1]),
        ("PROBES_KEPT", "E035", COUNTS, [1]),
        ("DISABLE_AFTER", "E036", POSITIVE, [3600]),
        (
            "NOTIFY",
            "E037",
            [None, 5, ["anna"], "ops@example.com", "no.such.path", "django.VERSION", [None]],
            [(), ["a@example.com"], ("a@example.com",), str.split, "django.setup"],
        ),
        ("NOTIFY_INTERVAL", "E038", NOT_NEGATIVE, [0, 60]),
        (
            "ALLOWED_NETWORKS",
            "E039",
            ["10.0.0.0/8", ["10.0.0.1/8"], ["intranet"], [10], None],
            [[], ("10.1.0.0/16", "fd00::/8"), ["10.0.0.7"]],
        ),
        ("DENIED_NETWORKS", "E040", [["300.0.0.0/8"], None], [["8.8.8.0/24"]]),
        (
            "ENCRYPTION_KEYS",
            "E042",
            [["short"], KEY, [KEY, KEY], [None], 5],
            [[KEY], (KEY, OTHER_KEY)],
        ),
        ("KEY_OVERLAP", "E043", NOT_NEGATIVE, [0, 60]),
        (
            "PROXY",
            "E044",
            [None, "proxy", "https://proxy", "http://", "http://a:b", "http://a/b", "http://[a"],
            ["", "http://proxy", "http://user:password@proxy.internal:4750/"],
        ),
        ("MAX_HOPS", "E048", COUNTS, [1]),
        ("AUDIT_KEY_DAYS", "E060", [0, -1, "1", NAN, True, None], [1, 0.5]),
        ("AUDIT_IDLE_DAYS", "E061", [0, -1, "1", NAN, True, None], [1, 0.5]),
        ("AUDIT_NOTIFY", "E062", ["nonsense", ["ops"], None, 3], [[], ["a@example.com"], list]),
        ("AUDIT_REPORTS_KEPT", "E063", COUNTS, [1]),
        ("FRESH_SHARE", "E064", [0, 1, -0.5, 2, "0.5", NAN, True, None], [0.01, 0.75, 0.99]),
        ("CA_BUNDLE", "E045", [None, "/no/such/file", __file__], ["", certifi.where()]),
        ("RECEIVING_REQUIRE_HTTPS", "E051", BOOLEANS, [True, False]),
        ("RECEIVING_MAX_BYTES", "E052", COUNTS, [1]),
        ("TRUSTED_PROXIES", "E053", ["10.0.0.0/8", ["10.0.0.1/8"], None], [["10.0.0.0/8"]]),
        ("RECEIVING_RETRY_AFTER", "E054", COUNTS, [1]),
        ("INBOX_WAIT", "E055", POSITIVE, [0.5]),
        ("INBOX_ATTEMPTS", "E056", COUNTS, [1]),
        (
            "INBOX_RETENTION_DAYS",
            "E057",
            [None, 30, {"waiting": 1}, {"handled": "30"}, {"succeeded": 30}],
            [{}, {"handled": None}, {"handled": 30, "given_up": 7}],
        ),
        ("ALLOWED_PORTS", "E041", [[0], [65_536], ["443"], 443, [True]], [None, [], [443], {8443}]),
    ],
)
def test_a_setting_that_cannot_work_is_an_error(setting, id, bad, good):
    name = f"WEBHOOKS_{setting}"

    assert [value for value in bad if reported(**{name: value}) != {f"webhooks.{id}"}] == []
    assert [value for value in good if reported(**{name: value})] == []


def test_an_error_names_the_setting_and_says_what_it_must_be():
    with override_settings(WEBHOOKS_RETRY_JITTER=2):
        [error] = run_checks(tags=["webhooks"])

    assert error.msg == "WEBHOOKS_RETRY_JITTER must be at least 0 and less than 1."
    assert error.hint


@pytest.mark.parametrize(
    ("lease", "timeout", "ids"),
    [
        (10, 15.0, {"webhooks.E023"}),
        (19.9, 15, {"webhooks.E023"}),
        (20, 15, set()),
    ],
)
def test_a_lease_outlasts_an_attempt(lease, timeout, ids):
    assert reported(WEBHOOKS_LEASE_SECONDS=lease, WEBHOOKS_TIMEOUT=timeout) == ids


def test_sending_in_the_clear_is_a_warning_for_production_alone():
    assert reported(WEBHOOKS_REQUIRE_HTTPS=False) == set()
    assert reported(WEBHOOKS_REQUIRE_HTTPS=False, deploy=True) == {"webhooks.W004"}


def test_an_open_network_is_a_warning_for_production_alone():
    opened = {"WEBHOOKS_ALLOWED_NETWORKS": ["10.1.0.0/16"], "WEBHOOKS_REQUIRE_HTTPS": True}

    assert reported(**opened) == set()
    assert reported(**opened, deploy=True) == {"webhooks.W006"}


def test_production_asks_for_encryption_keys_of_its_own():
    unset = {"WEBHOOKS_ENCRYPTION_KEYS": [], "WEBHOOKS_REQUIRE_HTTPS": True}

    assert reported(**unset) == {"webhooks.W008"}
    assert reported(**unset, DEBUG=True) == set()
    assert reported(**unset, deploy=True) == {"webhooks.W008", "webhooks.E047"}


def test_a_key_that_is_the_secret_key_is_an_error():
    keys = {"WEBHOOKS_ENCRYPTION_KEYS": [KEY, OTHER_KEY]}

    assert reported(**keys, SECRET_KEY=OTHER_KEY) == {"webhooks.E046"}
    assert reported(**keys, SECRET_KEY_FALLBACKS=[KEY]) == {"webhooks.E046"}


@pytest.mark.parametrize(
    ("url", "is_reported"),
    [
        ("amqp://guest@rabbit.internal//", True),
        ("redis://10.0.0.7:6379/0", True),
        ("sentinel://localhost;sentinel://other", True),
        (["amqps://rabbit.internal//", "amqp://rabbit.internal//"], True),
        ("amqps://rabbit.internal//", False),
        ("rediss://10.0.0.7:6379/0", False),
        ("redis://127.0.0.1:6379", False),
        ("redis://[::1]:6379", False),
        ("amqp://", False),
        ("sqs://", False),
    ],
)
def test_a_broker_elsewhere_without_tls_is_a_warning_for_production(url, is_reported):
    found = reported(deploy=True, WEBHOOKS_REQUIRE_HTTPS=True, CELERY_BROKER_URL=url)

    assert found == ({"webhooks.W009"} if is_reported else set())
    told = reported(
        deploy=True,
        WEBHOOKS_REQUIRE_HTTPS=True,
        CELERY_BROKER_URL=url,
        CELERY_BROKER_USE_SSL={"ca_certs": "x"},
    )
    assert told == set()


def test_a_proxy_is_a_reminder_for_production():
    proxy = {"WEBHOOKS_PROXY": "http://proxy:4750", "WEBHOOKS_REQUIRE_HTTPS": True}

    assert reported(**proxy) == set()
    assert reported(**proxy, deploy=True) == {"webhooks.W010"}


@pytest.mark.parametrize(
    ("middleware", "is_warned"),
    [
        ([AUTHENTICATION, ACTING], False),
        ([ACTING, AUTHENTICATION], True),
        ([AUTHENTICATION], True),
        ([], False),
    ],
)
def test_a_trail_that_does_not_know_who_is_a_warning_for_production(middleware, is_warned):
    assert reported(MIDDLEWARE=middleware) == set()
    found = reported(MIDDLEWARE=middleware, deploy=True)
    assert ("webhooks.W020" in found) is is_warned


def test_an_unknown_setting_is_a_warning_that_names_the_nearest_one():
    with override_settings(WEBHOOKS_TIME_OUT=1, WEBHOOKS_QQQ=1):
        unrelated, misspelt = run_checks(tags=["webhooks"])

    assert (unrelated.id, unrelated.hint) == ("webhooks.W001", "Remove it.")
    assert (misspelt.id, misspelt.hint) == ("webhooks.W001", "Did you mean WEBHOOKS_TIMEOUT?")


UNSCHEDULED = {"webhooks.W002", "webhooks.W007", "webhooks.W011", "webhooks.W021"}
SCHEDULE = {
    "look": {"task": "django_webhooks.tasks.sweep", "schedule": 5},
    "ask": {"task": "django_webhooks.tasks.check_health", "schedule": 5},
    "count": {"task": "django_webhooks.tasks.tally", "schedule": 60},
    "audit": {"task": "django_webhooks.tasks.audit", "schedule": 86_400},
}


@pytest.mark.usefixtures("no_celery")
def test_a_schedule_without_our_tasks_is_a_warning():
    assert reported() == UNSCHEDULED
    assert reported(CELERY_BEAT_SCHEDULE={"x": {"task": "shop.tasks.sweep"}}) == UNSCHEDULED
    assert reported(CELERY_BEAT_SCHEDULE={"x": "nonsense"}) == UNSCHEDULED
    assert reported(CELERY_BEAT_SCHEDULE="nonsense") == UNSCHEDULED


@pytest.mark.usefixtures("no_celery")
def test_each_of_our_tasks_is_missed_by_itself():
    missed = dict(zip(SCHEDULE, sorted(UNSCHEDULED), strict=True))
    for name, warning in missed.items():
        others = {key: entry for key, entry in SCHEDULE.items() if key != name}
        assert reported(CELERY_BEAT_SCHEDULE=others) == {warning}


@pytest.mark.usefixtures("no_celery")
def test_they_may_have_any_name_in_the_schedule():
    assert reported(CELERY_BEAT_SCHEDULE=SCHEDULE) == set()


@pytest.mark.usefixtures("no_celery")
def test_the_schedule_may_be_that_of_the_celery_app(monkeypatch):
    monkeypatch.setitem(tasks.deliver.app.conf, "beat_schedule", SCHEDULE)

    assert reported() == set()


@pytest.mark.usefixtures("no_celery")
def test_a_schedule_in_the_database_is_not_looked_at(monkeypatch):
    is_installed = apps.is_installed
    monkeypatch.setattr(
        apps, "is_installed", lambda name: name == "django_celery_beat" or is_installed(name)
    )

    assert reported() == set()


@pytest.mark.usefixtures("no_celery")
@pytest.mark.parametrize(
    ("routes", "is_routed"),
    [
        ({}, False),
        ({"django_webhooks.tasks.*": {"queue": "hooks"}}, True),
        ({"shop.tasks.*": "shop"}, False),
        ({re.compile(r"django_webhooks\..*"): "hooks"}, True),
        ([("shop.*", "shop"), ("django_webhooks.*", "hooks")], True),
        ([("shop.*", "shop"), ["other.*", "hooks"]], False),
        ([{"shop.*": "shop"}, {"*.deliver": "hooks"}], True),
        (lambda name, *args: None, True),
        ("shop.routing.route", True),
    ],
)
def test_tasks_without_a_queue_of_their_own_are_a_warning_for_production(routes, is_routed):
    wanted = UNSCHEDULED if is_routed else {*UNSCHEDULED, "webhooks.W005"}

    found = reported(deploy=True, WEBHOOKS_REQUIRE_HTTPS=True, CELERY_TASK_ROUTES=routes)

    assert found == wanted


@pytest.mark.parametrize(
    ("settings", "is_reported"),
    [
        ({"CELERY_BROKER_TRANSPORT_OPTIONS": {"visibility_timeout": 600}}, True),
        ({"CELERY_BROKER_TRANSPORT_OPTIONS": {"visibility_timeout": 601}}, False),
        ({"CELERY_BROKER_TRANSPORT_OPTIONS": {"polling_interval": 1}}, False),
        ({"CELERY_BROKER_TRANSPORT_OPTIONS": "nonsense"}, False),
        ({"CELERY_BROKER_URL": "redis://", "WEBHOOKS_CELERY_HORIZON": 3600}, True),
        ({"CELERY_BROKER_URL": "redis://", "WEBHOOKS_CELERY_HORIZON": 3599}, False),
        ({"CELERY_BROKER_URL": "amqp://", "WEBHOOKS_CELERY_HORIZON": 10**6}, False),
    ],
)
def test_messages_do_not_wait_for_longer_than_the_broker_lets_them(settings, is_reported):
    assert reported(**settings) == ({"webhooks.W003"} if is_reported else set())
