"""What django-modeltranslation translates."""

from __future__ import annotations

from modeltranslation.translator import TranslationOptions, register

from .models import News


@register(News)
class NewsTranslation(TranslationOptions):
    """The title."""

    fields = ["title"]
