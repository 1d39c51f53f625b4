"""Findings: what an audit has to say, each with an id that is never used again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .. import times


class Severity(StrEnum):
    """How much a finding matters."""

    # Good to know.
    INFO = "info"
    # To be looked at.
    WARNING = "warning"
    # To be mended now.
    SEVERE = "severe"

    @property
    def rank(self) -> int:
        """Higher is worse."""
        return list(Severity).index(self)

    @property
    def label(self) -> Any:
        """The word for people."""
        return {"info": _("Info"), "warning": _("Warning"), "severe": _("Severe")}[self.value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that an audit found.

    ``subject`` is a key that stays the same from audit to audit, such as ``endpoint:<id>``;
    ``sentence`` says what is so, ``advice`` what to do.
    """

    id: str
    severity: Severity
    subject: str
    sentence: str
    advice: str

    @property
    def key(self) -> tuple[str, str]:
        """The id and the subject, which tell it from others."""
        return self.id, self.subject


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditContext:
    """A database at a moment; ``verified`` is the result of the walk along the trail."""

    now: datetime
    using: str
    verified: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingDraft:
    """A finding about one subject; with a severity of its own where that is not the rule's."""

    subject: str
    sentence: str
    severity: Severity | None = None

    @classmethod
    def of(
        cls, subject: models.Model | str, text: str, severity: Severity | None = None, **values: Any
    ) -> FindingDraft:
        """Return a finding about a row or a key; ``text`` has ``%`` places for the values."""
        if not isinstance(subject, str):
            subject = f"{subject._meta.model_name}:{subject.pk}"
        if values:
            text %= {name: _written(value) for name, value in values.items()}
        return cls(subject=subject, sentence=text, severity=severity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One thing that audits look for."""

    id: str
    severity: Severity
    advice: Any
    look: Callable[[AuditContext], Iterator[FindingDraft]]

    def find(self, context: AuditContext) -> Iterator[Finding]:
        """Yield what is found."""
        for told in self.look(context):
            yield Finding(
                id=self.id,
                severity=told.severity or self.severity,
                subject=told.subject[:200],
                sentence=str(told.sentence),
                advice=str(self.advice),
            )


#: All rules, by id.
RULES: dict[str, Rule] = {}


def rule(
    id: str, severity: Severity, advice: Any
) -> Callable[
    [Callable[[AuditContext], Iterator[FindingDraft]]],
    Callable[[AuditContext], Iterator[FindingDraft]],
]:
    """Make a function a rule. Its id has never been that of another one."""

    def register(
        look: Callable[[AuditContext], Iterator[FindingDraft]],
    ) -> Callable[[AuditContext], Iterator[FindingDraft]]:
        if id in RULES:
            raise ValueError(f"{id} is the id of another rule; take the next one.")
        RULES[id] = Rule(id=id, severity=severity, advice=advice, look=look)
        return look

    return register


def _written(value: Any) -> Any:
    if isinstance(value, datetime):
        return f"{timezone.localtime(times.aware(value)):%Y-%m-%d %H:%M}"
    return "-" if value is None else value
