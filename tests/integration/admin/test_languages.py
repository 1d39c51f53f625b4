"""The second language: complete, compiled, and shown."""

from __future__ import annotations

import gettext
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import django_webhooks
from tests import factories, pages
from tests.services import REQUIRED

PACKAGE = Path(django_webhooks.__file__).parent
FOLDER = PACKAGE / "locale" / "de" / "LC_MESSAGES"


def entries(text):
    """The entries of a catalogue: what is translated, and whether it is."""
    found = {}
    for block in re.split(r"\n\n+", text):
        ids = re.findall(r'^(msgctxt|msgid|msgstr(?:\[\d\])?) ((?:".*"\n?)+)', block, re.M)
        parts = {name: "".join(re.findall(r'"(.*)"', value)) for name, value in ids}
        if parts.get("msgid"):
            key = (parts.get("msgctxt", ""), parts["msgid"])
            found[key] = [value for name, value in parts.items() if name.startswith("msgstr")]
    return found


def test_every_text_is_translated_and_keeps_its_placeholders():
    found = entries((FOLDER / "django.po").read_text("utf-8"))

    assert len(found) > 400
    assert [key for key, translated in found.items() if not all(translated)] == []
    for (_, text), translated in found.items():
        for one in translated:
            wanted = set(re.findall(r"%\(\w+\)\w|%%", text))
            assert set(re.findall(r"%\(\w+\)\w|%%", one)) == wanted, text


def test_the_compiled_catalogue_is_that_of_the_text():
    found = entries((FOLDER / "django.po").read_text("utf-8"))

    with (FOLDER / "django.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)

    for (context, written), [translated, *plural] in found.items():
        text, wanted = (one.replace("\\n", "\n") for one in (written, translated))
        if not plural:
            shown = compiled.pgettext(context, text) if context else compiled.gettext(text)
            assert shown == wanted


def test_no_text_of_the_code_is_missing(tmp_path):
    if not shutil.which("xgettext"):
        (pytest.fail if REQUIRED else pytest.skip)("needs xgettext, of the package gettext")
    copy = tmp_path / "django_webhooks"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "static"))
    before = set(entries((FOLDER / "django.po").read_text("utf-8")))

    subprocess.run(
        [sys.executable, "-m", "django", "makemessages", "-l", "de", "--no-obsolete"],
        cwd=copy,
        # It needs no settings, and ours are not on its path.
        env={k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"},
        check=True,
        capture_output=True,
    )

    text = (copy / "locale" / "de" / "LC_MESSAGES" / "django.po").read_text("utf-8")
    assert set(entries(text)) == before


@pytest.mark.django_db
def test_staff_read_it_in_their_language(admin_client, settings):
    settings.LANGUAGE_CODE = "de"
    settings.WEBHOOKS_ALLOW_UNKNOWN_EVENT_TYPES = True
    delivery = factories.delivery()

    texts = [
        admin_client.get(address).content.decode()
        for address in (
            pages.url("overviewpage"),
            pages.url("delivery"),
            pages.url("delivery", "change", delivery.pk),
            pages.url("subscription", "change", delivery.subscription_id),
        )
    ]

    assert "Endpunkte, denen es nicht gut geht" in texts[0]
    assert "Ausgewählte Zustellungen wiederholen" in texts[1]
    assert "Wartet auf einen Worker seit" in texts[2]
    assert "Testereignis senden" in texts[3]
