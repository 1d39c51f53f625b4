"""Settings: read when they are used, with a default each."""

from __future__ import annotations

import inspect

import pytest

from django_webhooks import conf
from django_webhooks.conf import Settings

NAMES = [name for name in vars(Settings) if name.startswith("WEBHOOKS_")]


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_has_a_default_that_the_project_may_change_at_any_time(name, settings):
    if hasattr(settings, name):
        delattr(settings, name)
    assert getattr(conf.settings, name) == vars(Settings)[name]

    setattr(settings, name, "changed")

    assert getattr(conf.settings, name) == "changed"


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_has_a_type_and_says_what_it_means(name):
    lines = inspect.getsource(Settings).splitlines()
    [at] = [number for number, line in enumerate(lines) if line.startswith(f"    {name}:")]

    assert lines[at - 1].strip().startswith("#:")
    assert name in Settings.__annotations__


def test_there_are_no_more_settings_than_somebody_can_read():
    """A new one takes the place of another, or is a constant beside the code that uses it."""
    assert len(NAMES) <= 45


def test_what_is_no_setting_is_an_attribute_error():
    with pytest.raises(AttributeError, match="WEBHOOKS_NONE"):
        _ = conf.settings.WEBHOOKS_NONE
