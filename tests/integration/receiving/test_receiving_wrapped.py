"""Views that receive, wrapped as projects wrap views: they work, or are refused with the reason."""

from __future__ import annotations

import functools

import pytest
from asgiref.sync import sync_to_async
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import clear_url_caches, include, path
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from django_webhooks.checks.receiving_views import check_secrets, check_wrappers
from django_webhooks.inbox import worker
from django_webhooks.inbox.models import InboxMessage
from django_webhooks.receiving import Token, WebhookView, handlers, webhook
from tests.senders import SECRET

# They look at requests: all databases behave alike.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.alike]
handled = []

KINDS = {"plain": {"once": False}, "once": {}, "background": {"background": True}}


def views_of(kind):
    """A view as a function and as a class, each with a name of its own."""

    @webhook(name=f"function {kind}", scheme=Token(), secrets=SECRET, **KINDS[kind])
    def function(request, message, **captured):
        handled.append((message.payload, captured))

    class Class(WebhookView):
        scheme, secrets, name = Token(), SECRET, f"class {kind}"
        once, background = kind != "plain", kind == "background"

        def handle(self, message):
            handled.append((message.payload, self.kwargs))

    return {"function": function, "class": Class.as_view()}


def copied(view):
    @functools.wraps(view)
    def wrapper(request, *args, **kwargs):
        return view(request, *args, **kwargs)

    return wrapper


def bare(view):
    def wrapper(request, *args, **kwargs):
        return view(request, *args, **kwargs)

    return wrapper


def exempt_inside(view):
    return bare(csrf_exempt(view))


class Callable:
    def __init__(self, view):
        self.view = view

    def __call__(self, request, *args, **kwargs):
        return self.view(request, *args, **kwargs)

    def method(self, request, *args, **kwargs):
        return self.view(request, *args, **kwargs)


def bound(view):
    return Callable(view).method


def partial(view):
    return functools.partial(view)


def unfilled(view):
    def wrapper(request, *args, **kwargs):
        return view(request, *args, **kwargs) if view else missing

    if not view:
        missing = None
    return wrapper


def asynchronous(view):
    async def wrapper(request, *args, **kwargs):
        return await sync_to_async(view)(request, *args, **kwargs)

    return wrapper


WRAPPERS = {
    "nothing": lambda view: view,
    "functools.wraps": copied,
    "a plain function": bare,
    "two of them": lambda view: bare(bare(view)),
    "csrf_exempt outside": lambda view: csrf_exempt(bare(view)),
    "csrf_exempt inside": exempt_inside,
    "require_POST": require_POST,
    "never_cache": never_cache,
    "an object": Callable,
    "a method": bound,
    "a partial": partial,
    "a cell that is not filled": unfilled,
    "a coroutine": asynchronous,
}
#: Those that keep what Django reads off a view.
KEEPING = {"nothing", "functools.wraps", "require_POST", "never_cache"}

urlpatterns = []


@pytest.fixture(autouse=True)
def _site(settings, monkeypatch):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []
    handled.clear()
    monkeypatch.setattr(handlers, "_known", {})
    yield
    urlpatterns.clear()
    clear_url_caches()


def route(*patterns):
    urlpatterns[:] = patterns
    clear_url_caches()


def post(address="/hook/", body=b'{"n": 1}', **options):
    return Client(raise_request_exception=False, **options).generic(
        "POST",
        address,
        body,
        headers={"authorization": f"Bearer {SECRET}"},
        secure=True,
        CONTENT_TYPE="application/json",
    )


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("form", ["function", "class"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_wrapped_view_handles_its_messages(kind, form, name):
    view = WRAPPERS[name](views_of(kind)[form])
    route(path("api/<slug:tenant>/", include([path("hook/", view)])))

    answer = post("/api/acme/hook/")

    assert answer.status_code == (202 if kind == "background" else 204)
    if kind == "background":
        assert worker.drain().handled == 1
    assert handled == [({"n": 1}, {"tenant": "acme"})]


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("form", ["function", "class"])
def test_a_wrapper_that_loses_an_exemption_is_told_of_at_start(settings, name, form):
    settings.MIDDLEWARE = ["django.middleware.csrf.CsrfViewMiddleware"]
    route(path("hook/", WRAPPERS[name](views_of("background")[form])))
    is_exempt = name in KEEPING or name == "csrf_exempt outside"

    found = check_wrappers()

    assert [one.id for one in found] == ([] if is_exempt else ["webhooks.W040"])
    assert post(enforce_csrf_checks=True).status_code == (202 if is_exempt else 403)
    if not is_exempt:
        assert "'hook/' wraps" in found[0].msg
        assert "CSRF" in found[0].msg
        assert "functools.wraps" in found[0].hint


def test_the_exemption_from_the_login(settings):
    settings.MIDDLEWARE = ["django.contrib.auth.middleware.LoginRequiredMiddleware"]
    view = csrf_exempt(bare(views_of("once")["function"]))
    route(path("api/", include([path("hook/", view)])))

    [found] = check_wrappers()

    assert found.id == "webhooks.W040"
    assert "the view at 'api/hook/'" in found.msg.lower()
    assert "the login" in found.msg


named = views_of("background")["function"]


def by_name(request):
    return named(request)


def test_a_wrapper_that_names_a_view_of_its_module(settings):
    settings.MIDDLEWARE = ["django.middleware.csrf.CsrfViewMiddleware"]
    route(path("hook/", by_name))

    assert [one.id for one in check_wrappers()] == ["webhooks.W040"]
    assert post().status_code == 202
    assert worker.drain().handled == 1


class Opaque:
    """A wrapper that shows nothing of what it wraps."""

    __slots__ = ("view",)

    def __init__(self, view):
        self.view = view

    def __call__(self, request, *args, **kwargs):
        return self.view(request, *args, **kwargs)


def test_a_wrapper_that_shows_nothing_is_looked_up_by_name():
    route(path("hook/", Opaque(views_of("background")["function"])))

    assert check_wrappers() == []
    assert post().status_code == 202
    assert worker.drain().handled == 1


def test_views_of_one_name_behind_such_wrappers_take_nothing(caplog):
    first, second = (views_of("background")["function"] for _ in range(2))
    route(path("hook/", Opaque(first)), path("other/", Opaque(second)))

    answer = post()

    assert (answer.status_code, answer.content) == (500, b"not_handled\n")
    assert "Several views are named" in caplog.text
    assert not InboxMessage.objects.exists()


def test_views_of_one_name_are_told_apart_where_nothing_hides_them():
    first, second = (views_of("background")["function"] for _ in range(2))
    route(path("hook/", copied(first)), path("other/", bare(second)))

    assert [post().status_code, post("/other/", b'{"n": 2}').status_code] == [202, 202]
    assert worker.drain().handled == 2


def test_a_view_that_is_made_anew_takes_the_place_of_the_one_before():
    class Class(WebhookView):
        scheme, secrets, name, background = Token(), SECRET, "made anew", True

        def handle(self, message):
            handled.append(message.payload)

    for _ in range(2):
        route(path("hook/", bare(Class.as_view())))

    assert check_wrappers() == []
    assert post().status_code == 202
    assert worker.drain().handled == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrapper_that_changes_the_arguments(kind, caplog):
    view = views_of(kind)["function"]
    route(path("hook/", lambda request: view(request, plan="gold")))

    answer = post()

    if kind == "background":
        # A worker would not know them.
        assert answer.status_code == 500
        assert "changes its arguments" in caplog.text
        assert not InboxMessage.objects.exists()
    else:
        assert answer.status_code == 204
        assert handled == [({"n": 1}, {"plan": "gold"})]


def test_a_urlconf_that_a_middleware_chose_is_not_that_of_the_worker(settings, caplog):
    import types

    view = views_of("background")["function"]
    other = types.ModuleType("other_urls")
    other.urlpatterns = [path("hook/", view)]
    settings.MIDDLEWARE = [f"{__name__}.choosing"]
    choosing.urlconf = other

    answer = post()

    assert answer.status_code == 500
    assert "There is no view at /hook/" in caplog.text
    assert not InboxMessage.objects.exists()


def choosing(get_response):
    def middleware(request):
        request.urlconf = choosing.urlconf
        return get_response(request)

    return middleware


def test_method_decorators_around_dispatch_and_around_handle():
    @method_decorator(never_cache, name="dispatch")
    class Class(WebhookView):
        scheme, secrets, name, background = Token(), SECRET, "decorated", True

        def handle(self, message):
            handled.append(message.payload)

    route(path("hook/", Class.as_view()))

    answer = post()

    assert (answer.status_code, "no-store" in answer["Cache-Control"]) == (202, True)
    assert worker.drain().handled == 1


class TestAsync:
    def test_a_handler_that_is_a_coroutine_is_refused_where_it_is_written(self):
        async def handler(request, message):
            """Never."""

        class Class(WebhookView):
            async def handle(self, message):
                """Never."""

        for make in (webhook(secrets=SECRET), lambda _: Class.as_view()):
            with pytest.raises(TypeError, match="not async def"):
                make(handler)

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_handler_that_returns_no_response_is_told_so(self, kind, caplog):
        async def later():
            """Never awaited."""

        class Later:
            def __call__(self, request, message):
                found = later()
                found.close()
                return found

        for result in (Later(), lambda *both: {"ok": True}, lambda *both: "ok"):
            result.__module__, result.__qualname__ = "shop", f"{kind} {result!r:.20}"
            view = webhook(scheme=Token(), secrets=SECRET, name=f"odd {kind}", **KINDS[kind])(
                result
            )
            route(path("hook/", view))
            body = f'{{"of": "{id(result)}"}}'.encode()

            answer = post(body=body)

            if kind == "background":
                assert answer.status_code == 202
                worker.drain()
                assert InboxMessage.objects.latest("id").error.startswith("TypeError")
            else:
                assert answer.status_code == 500
            assert "return an HttpResponse, or None" in caplog.text
            caplog.clear()


@pytest.mark.parametrize("kind", KINDS)
def test_views_under_asgi(kind):
    from asgiref.sync import async_to_sync

    route(path("hook/", asynchronous(views_of(kind)["function"])))

    async def ask():
        return await AsyncClient().generic(
            "POST",
            "/hook/",
            b'{"n": 1}',
            content_type="application/json",
            headers={"authorization": f"Bearer {SECRET}"},
            secure=True,
        )

    answer = async_to_sync(ask)()

    assert answer.status_code == (202 if kind == "background" else 204)


class TestSecrets:
    def test_a_malformed_one_is_an_error_at_start(self):
        good = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

        class Class(WebhookView):
            secrets = "whsec_%"

        route(
            path("good/", webhook(secrets=[good, f" {good}\n", f"v1,{good}"])(keep)),
            path("bad/", webhook(secrets=[good, "whsec_"])(keep)),
            path("wrapped/", bare(webhook(secrets="whsec_")(keep))),
            path("class/", Class.as_view()),
            path("later/", webhook(secrets=lambda request: "whsec_")(keep)),
            path("other/", webhook(secrets="whsec_", scheme=Token())(keep)),
            path("plain/", lambda request: HttpResponse()),
        )

        found = check_secrets()

        assert [one.id for one in found] == ["webhooks.E091"] * 3
        assert [one.msg.partition("'")[2].partition("'")[0] for one in found] == [
            "bad/",
            "wrapped/",
            "class/",
        ]

    def test_a_project_without_urls(self, settings):
        del settings.ROOT_URLCONF

        assert check_secrets() == check_wrappers() == []


def keep(request, message):
    handled.append(message)
