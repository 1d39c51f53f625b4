"""The base of commands that handle secrets: their errors show none."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand

from ..hiding import MASK, forget_variables, hiding

#: Options whose value is a secret, also as argparse takes them abbreviated.
SECRET_OPTIONS = ("--secret", "--secre", "--secr")


class HidingCommand(BaseCommand):
    """A command whose errors leave without the variables of its frames."""

    @hiding
    def run_from_argv(self, argv: list[str]) -> None:
        """Run, with the secrets of the command line taken out of what error reports send of it."""
        given = list(argv)
        for arguments in (argv, sys.argv):
            arguments[:] = _masked(arguments)
        if given == argv:
            super().run_from_argv(given)
            return
        try:
            super().run_from_argv(given)
        except Exception as error:
            # Frames of Django above this one hold the command line: none of them is shown.
            forget_variables(error)
            del given
            sys.excepthook(type(error), error, error.__traceback__)
            sys.exit(1)

    @hiding
    def execute(self, *args: Any, **options: Any) -> Any:
        """Run, called by code as well."""
        return super().execute(*args, **options)


def _masked(arguments: list[str]) -> list[str]:
    found: list[str] = []
    for one in arguments:
        name, sign, _ = one.partition("=")
        if found and found[-1] in SECRET_OPTIONS:
            found.append(MASK)
        else:
            found.append(f"{name}={MASK}" if sign and name in SECRET_OPTIONS else one)
    return found
