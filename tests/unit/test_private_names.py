"""The private names of other libraries that this package uses, each with its reason.

A name that begins with an underscore may change in any release of its library. Documented names are
not in this list though they begin with one: ``_meta``, ``_base_manager``, ``_default_manager`` and
``_state`` of Django's models, ``_replace`` of named tuples, ``_value_`` of enumerations. A new name
needs a row here, and a test of what the package relies upon in ``TestUpstream``.

======================================  ===========================================================
name                                    reason
======================================  ===========================================================
``LazySettings._wrapped``               Settings are read some hundred times for each request, and
                                        the lazy object fails twice, in Python, for each setting
                                        that a project leaves out.
``QuerySet._raw_delete``                Prunes old rows by one statement. ``delete()`` loads them
                                        where any app listens to all deletions.
``QuerySet._result_cache``              Rows of several subscriptions are read in one statement
                                        together with their owners; ``prefetch_related`` takes one
                                        more for each relation.
``QuerySet._prefetch_done``             The same: such a query set has nothing left to prefetch.
``QuerySet._prefetch_related_lookups``  Rows are read anew with the same relations at hand.
``Model._prefetched_objects_cache``     Holds these query sets; a manager, which Django makes each
                                        time, takes longer to ask, before each request. Forgets what
                                        was loaded when patterns and keys change.
``ModelState.fields_cache``             Tells which related rows are in memory, and asks no
                                        database, where a log line or a hook names them.
``HttpRequest._body``                   Keeps a body that came in chunks, as Django's own test
                                        client does: handlers read it again.
======================================  ===========================================================
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import LazySettings, settings
from django.db.models.base import ModelState
from django.test import RequestFactory, override_settings

import django_webhooks
from django_webhooks.conf import settings as ours
from django_webhooks.models import Subscription
from django_webhooks.models.event_type_pattern import EventTypePattern
from tests import factories

PACKAGE = Path(django_webhooks.__file__).parent
DOCUMENTED = {"_base_manager", "_default_manager", "_meta", "_replace", "_state", "_value_"}
#: Names without an underscore that are nowhere documented, and that could not be found otherwise.
UNDOCUMENTED = {"fields_cache"}
REGISTER = set(re.findall(r"^``\w+\.(\w+)``", __doc__ or "", re.MULTILINE))


def is_private(name: str) -> bool:
    """Say so of a name with one underscore before it that is neither documented nor our own."""
    is_named_so = re.fullmatch(r"_(?!webhooks_)[a-zA-Z]\w*", name) is not None
    return is_named_so and name not in DOCUMENTED


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if "migrations" not in path.parts:
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def is_own(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in {"cls", "self"}


def defined(tree: ast.AST) -> Iterator[str]:
    """Yield the names that the code itself makes: by assignment, to self too, or by definition."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Attribute(value=value, attr=name, ctx=ast.Store()) if is_own(value):
                yield name


def foreign(tree: ast.Module, *, own: set[str]) -> Iterator[str]:
    """Yield the private names of others in a module: attributes, imports, and texts that are names.

    ``own`` are the names that the package makes, of which any class may use those of its mixins.
    """
    here = set(defined(tree))
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=value, attr=name):
                if name in UNDOCUMENTED or name not in (own if is_own(value) else here):
                    yield name
            case ast.ImportFrom(module=str(module), level=0, names=names):
                yield from module.split(".")
                yield from (one.name for one in names)
            case ast.Import(names=names):
                yield from (part for one in names for part in one.name.split("."))
            # As in getattr(instance, "_name") and vars(instance)["_name"].
            case ast.Constant(value=str(name)) if name not in own:
                yield name


def test_the_register_holds_each_private_name_and_no_other():
    own = {name for _, tree in modules() for name in defined(tree)}
    found = {
        name
        for _, tree in modules()
        for name in foreign(tree, own=own | TEXTS)
        if is_private(name) or name in UNDOCUMENTED
    }

    assert found == REGISTER
    assert len(REGISTER) <= 12


#: Texts that begin with an underscore and name no attribute of another library.
TEXTS = {
    "_changelist",  # the end of the name of a URL
    "_event_types",  # in the dictionary of a subscription of ours
    "_list",  # the end of an id in HTML
    "_signing_secret",  # in the dictionary of a subscription of ours
}


@functools.cache
def private_names_of(kind: type) -> frozenset[str]:
    """Return what a class of another library calls its own: members, and what it sets on self."""
    names = set(vars(kind))
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, SyntaxError, TypeError):
        tree = ast.Module([], [])
    names |= {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and is_own(node.value)
    }
    return frozenset(filter(is_private, names))


def classes() -> Iterator[type]:
    for one in pkgutil.walk_packages(PACKAGE.parent.glob(PACKAGE.name), "django_webhooks."):
        if ".migrations" not in one.name:
            module = importlib.import_module(one.name)
            for kind in vars(module).values():
                if inspect.isclass(kind) and kind.__module__ == one.name:
                    yield kind


def test_no_class_overrides_or_shares_a_private_name_of_its_bases():
    taken = []
    for kind in classes():
        bases = [one for one in kind.__mro__ if not one.__module__.startswith("django_webhooks")]
        theirs = set().union(*map(private_names_of, bases))
        mine = {name for name in vars(kind) if name in theirs and is_private(name)}
        # What a metaclass puts there is put there by the library.
        mine &= set(re.findall(r"\b_\w+", inspect.getsource(kind)))
        taken += [f"{kind.__qualname__}.{name}" for name in mine if name not in REGISTER]

    assert taken == []


class TestUpstream:
    """Each name of the register does what the package relies upon."""

    def test_the_settings_are_in_wrapped(self):
        assert isinstance(settings, LazySettings)

        with override_settings(WEBHOOKS_HEALTH_FALL=77):
            held = vars(settings)["_wrapped"]

            assert held.WEBHOOKS_HEALTH_FALL == 77
            assert ours.WEBHOOKS_HEALTH_FALL == 77
        assert vars(settings)["_wrapped"] is not held

    @pytest.mark.django_db
    def test_raw_delete_is_one_statement_and_counts_rows(self, django_assert_num_queries):
        subscription = factories.subscription(event_types=["a.b", "c.d"])
        rows = EventTypePattern.objects.filter(subscription=subscription)

        with django_assert_num_queries(1):
            removed = rows._raw_delete("default")

        assert removed == 2

    @pytest.mark.django_db
    def test_a_query_set_that_has_its_rows_asks_for_none(self, django_assert_num_queries):
        factories.subscription()
        rows = Subscription.objects.prefetch_related("endpoints")
        rows._result_cache, rows._prefetch_done = [], True

        with django_assert_num_queries(0):
            assert list(rows) == []

    @pytest.mark.django_db
    def test_what_is_prefetched_is_kept_by_the_name_of_the_relation(
        self, django_assert_num_queries
    ):
        factories.subscription()
        rows = Subscription.objects.prefetch_related("endpoints")
        [subscription] = rows

        kept = vars(subscription)["_prefetched_objects_cache"]

        assert rows._prefetch_related_lookups == ("endpoints",)
        assert list(kept) == ["endpoints"]
        assert (kept["endpoints"]._prefetch_done, len(kept["endpoints"]._result_cache)) == (True, 1)
        with django_assert_num_queries(0):
            assert len(subscription.endpoints.all()) == 1
        kept.pop("endpoints")
        with django_assert_num_queries(1):
            assert len(subscription.endpoints.all()) == 1

    @pytest.mark.django_db
    def test_related_rows_in_memory_are_in_the_cache_of_the_state(self):
        endpoint = factories.subscription().endpoints.get()
        read = type(endpoint).objects.get(pk=endpoint.pk)

        assert isinstance(read._state, ModelState)
        assert read._state.fields_cache == {}
        subscription = read.subscription
        assert read._state.fields_cache == {"subscription": subscription}

    def test_a_body_that_is_set_is_what_a_handler_reads(self):
        request = RequestFactory().post("/", b"from the wire", content_type="text/plain")

        request._body = b"in chunks"

        assert request.body == b"in chunks"
