"""Everything that a process remembers is registered, and forgotten."""

from __future__ import annotations

import ast
import functools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import django_webhooks
from django_webhooks import encryption, process_state
from django_webhooks.models.figures import heartbeat
from django_webhooks.policies import urls
from django_webhooks.sending.database import clock, persistent_connection
from django_webhooks.sending.http import pools
from django_webhooks.sending.worker import executor

PACKAGE = Path(django_webhooks.__file__).parent
#: What imports and declarations of a project make is no memory, and stays.
DECLARATIONS = {
    "apps._hooks",
    "audit_log._recorder",
    "auditing.finding.RULES",
    "catalog._types",
    "extensions._installed",
    "hooks.relations.fields",
    "hooks.drafts.hooks",
    "models.owner.met",
    "process_state._registered",
    "receiving.handlers._known",
    "receiving.inboxes._inbox",
    "receiving.views.tolerances",
    "sending.maintenance.deleted_owners._watched",
}
#: Values that nobody changes, though their names do not say so.
STATELESS = {"conf.settings", "urls.urlpatterns"}
#: Forgotten in one way and left to a child in another, by functions of their modules, of which
#: that of the pools is one for all that connects.
REGISTERED = {
    "sending.database.persistent_connection._kept",
    "sending.http.pools._pool",
    "sending.http.sockets._resolver",
    "sending.http.sockets._slots",
    "sending.http.tls._contexts",
}
#: A thread that publishes, which a child starts anew, and the settings that its messages go by.
WAKING = {
    "inbox.wakeups._is_eager",
    "inbox.wakeups._waker",
    "wakeups._is_eager",
    "wakeups._waker",
}
CACHES = {"cache", "lru_cache"}
EMPTY = {"dict", "list", "set"}
CONTAINERS = {"OrderedDict", "WeakValueDictionary", "defaultdict", "deque", "local"}


def name_of(node: ast.AST) -> str:
    """Return the last part of the name of what is called or applied."""
    match node:
        case ast.Call(func=func):
            return name_of(func)
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def is_registered(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Call | ast.Attribute) and ast.unparse(node).startswith(
        ("process_state.memo", "process_state.remember")
    )


def is_stateful(name: str, value: ast.expr | None, *, classes: set[str]) -> bool:
    """Say whether a value can remember: a container, a cache, an object of the package.

    Full containers and objects of the package may be constants, by their name.
    """
    is_constant = name.lstrip("_")[0].isupper() or name.startswith("__")
    match value:
        case ast.Dict(keys=held) | ast.List(elts=held) | ast.Set(elts=held):
            return not held or not is_constant
        case ast.Call(args=given):
            of_python = CACHES | CONTAINERS | (set() if given else EMPTY)
            return name_of(value) in of_python | (set() if is_constant else classes)
    return False


def state_of(tree: ast.Module, *, classes: set[str]) -> Iterator[tuple[str, bool]]:
    """Yield the names of a module that are bound to state, and whether each is registered."""
    rebound = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Global | ast.Subscript)
        for name in (
            node.names
            if isinstance(node, ast.Global)
            else [name_of(node.value)] * isinstance(node.ctx, ast.Store)
        )
    }
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name, decorator_list=[*decorators]):
                if any(name_of(one) in CACHES for one in decorators):
                    yield name, is_registered(decorators[0])
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=value)
            ):
                if is_registered(value):
                    yield name, True
                elif name in rebound or is_stateful(name, value, classes=classes):
                    yield name, False


@functools.cache
def modules() -> dict[str, ast.Module]:
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(
            path.read_text(encoding="utf-8")
        )
        for path in sorted(PACKAGE.rglob("*.py"))
        if "migrations" not in path.parts
    }


def all_state() -> dict[str, bool]:
    classes = {
        node.name
        for tree in modules().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    return {
        f"{module}.{name}": is_kept
        for module, tree in modules().items()
        for name, is_kept in state_of(tree, classes=classes)
    }


def test_no_state_of_the_process_is_forgotten_to_be_forgotten():
    found = {name for name, is_kept in all_state().items() if not is_kept}

    assert found == DECLARATIONS | STATELESS | REGISTERED | WAKING


def test_what_is_registered_by_functions_is():
    registering = {
        module
        for module, tree in modules().items()
        if "process_state.register(" in ast.unparse(tree)
    }

    assert registering == {"sending.database.persistent_connection", "sending.http.pools"}


def test_only_the_register_listens_for_forks():
    listening = {
        module
        for module, tree in modules().items()
        if "register_at_fork" in {name_of(one) for one in ast.walk(tree)}
    }

    assert listening == {"process_state", "wakeups"}


@pytest.fixture
def remembering():
    """Let a process remember a moment, a receiver, a URL, a key, a connection, and its pool."""
    process_state.forget()
    heartbeat._said["here", "deliver"] = 1.0
    clock._shared["default"] = (1.0, lambda: None)
    executor.latencies.note("receiver", seconds=9.0, now=1.0)
    urls.parse("https://example.com/", urls.Rules())
    encryption.encrypt("text", context="place")
    return pools._pool


def memories() -> list[object]:
    return [
        heartbeat._said,
        clock._shared,
        executor.latencies.is_slow("receiver", now=1.0),
        urls._parse.cache_info().currsize,
        encryption._ring_of_project.cache_info().currsize + encryption._ring.cache_info().currsize,
    ]


def test_all_of_it_is_forgotten(remembering):
    assert all(memories())

    process_state.forget()

    assert not any(memories())
    assert pools._pool is not remembering


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_forgets_all_but_what_is_true_for_it_too(remembering):
    own = (os.getpid(), object())
    persistent_connection._kept["default", own[0]] = (
        1.0,
        own[1],
    )  # of the parent, which goes on using it

    child = os.fork()
    if not child:
        *state, a_url, a_key = map(bool, memories())
        is_right = state == [False] * 3 and a_url and a_key and pools._pool is not remembering
        is_left_alone = persistent_connection._kept == {("default", own[0]): (1.0, own[1])}
        os._exit(0 if is_right and is_left_alone else 1)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    del persistent_connection._kept["default", own[0]]

    assert ended == 0
    assert all(memories())
