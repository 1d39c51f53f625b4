"""Findings: what an audit has to say, each with an id that is never used again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.utils.translation import gettext_lazy as _


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
        """What tells it from others."""
        return self.id, self.subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What rules look at: a database, at a moment; ``verified`` is what the trail's walk found."""

    now: datetime
    using: str
    verified: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a rule tells of one subject; a severity of its own where it is not the rule's."""

    subject: str
    sentence: str
    severity: Severity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One thing that audits look for."""

    id: str
    severity: Severity
    advice: Any
    look: Callable[[Scene], Iterator[Told]]

    def find(self, scene: Scene) -> Iterator[Finding]:
        """Yield what is found."""
        for told in self.look(scene):
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
) -> Callable[[Callable[[Scene], Iterator[Told]]], Callable[[Scene], Iterator[Told]]]:
    """Make a function a rule. Its id has never been that of another one."""

    def register(look: Callable[[Scene], Iterator[Told]]) -> Callable[[Scene], Iterator[Told]]:
        if id in RULES:
            raise ValueError(f"{id} is the id of another rule; take the next one.")
        RULES[id] = Rule(id=id, severity=severity, advice=advice, look=look)
        return look

    return register
