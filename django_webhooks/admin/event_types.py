"""The choice of event types: those of the catalog as boxes with a search, and patterns as text."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.forms.utils import flatatt
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from .. import catalog
from ..conf import settings
from ..exceptions import UnknownEventType
from ..validators import validate_pattern


class SearchedBoxes(forms.CheckboxSelectMultiple):
    """Boxes below a field that hides those that do not match; without a script all are there."""

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        """Return the field and the boxes."""
        chosen = {str(one) for one in value or ()}
        list_id = f"{(attrs or {}).get('id', name)}_list"
        boxes = format_html_join(
            "",
            "<label><input{}> {}</label>",
            (
                (
                    flatatt(
                        {
                            "type": "checkbox",
                            "name": name,
                            "value": key,
                            "checked": key in chosen,
                        }
                    ),
                    words,
                )
                for key, words in self.choices
            ),
        )
        return format_html(
            '<div><input type="search" hidden data-webhooks-search="{}" aria-label="{}" '
            'placeholder="{}"><div class="webhooks-types" id="{}" role="group" aria-label="{}" '
            'tabindex="0">{}</div></div>',
            list_id,
            _("Search event types"),
            _("Search"),
            list_id,
            _("Event types of the catalog"),
            boxes or _("No event types are declared yet; declare them in the module webhooks of "
                       "an app."),
        )  # fmt: skip


def declared() -> list[tuple[str, str]]:
    """Return the event types of the catalog with what they mean."""
    return [
        (one.name, f"{one.name} – {one.description}" if one.description else one.name)
        for one in catalog.all()
    ]


def check(pattern: str, *, known: list[str]) -> None:
    """Refuse a malformed pattern, and a name that nobody declared unless it is there already."""
    validate_pattern(pattern)
    if "*" in pattern or pattern in known or settings.WEBHOOKS_ALLOW_UNKNOWN_EVENT_TYPES:
        return
    try:
        catalog.get(pattern)
    except UnknownEventType as error:
        raise ValidationError(str(error), code="unknown") from None
