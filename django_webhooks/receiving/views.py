"""Views: a decorator and a class whose handler sees verified messages alone, and each once.

Messages are told apart by the inbox (:mod:`.inboxes`); a view with ``once=False`` needs none.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Unpack

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import got_request_exception
from django.db import InterfaceError, OperationalError, models
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_variables

from ..exceptions import InvalidPayload, Rejected
from ..models.owner import OwnerKey
from ..policies.cleaning import written_out
from ..policies.reasons import RejectionReason
from . import handlers as handlings
from . import inboxes, wrappers
from .guard import Guard, GuardOptions, Secrets
from .handlers import Handling
from .handshakes import Handshake
from .message import Message
from .schemes import Scheme, StandardWebhooks

logger = logging.getLogger("django_webhooks.receiving")

#: Seconds after which a sender is asked to repeat a message that could not be handled: by then a
#: deployment or a failover of the database is mostly over.
RETRY_AFTER_SECONDS = 10

Handler = Callable[..., HttpResponseBase | None]
Owner = Callable[[HttpRequest], models.Model | OwnerKey | None]

#: Characters of the name of a view, as the inbox keeps it.
MAX_NAME = 200

#: The header that tells a sender why its request was refused: ``policies.outcome`` reads it.
REJECTED = "webhook-rejected"
#: The tolerances of the views there are, for the system check.
tolerances: list[int] = []
#: Attribute of a view that holds what it verifies with, for the same: a scheme, and secrets.
VERIFIER = "webhook_verifier"


def webhook(
    *,
    secrets: Secrets,
    scheme: Scheme | None = None,
    name: str = "",
    once: bool = True,
    background: bool = False,
    keep_payload: bool = True,
    owner: Owner | None = None,
    **options: Unpack[GuardOptions],
) -> Callable[[Handler], Callable[..., HttpResponseBase]]:
    """Let a view handle verified messages: it is called with the request and the message.

    Further options are those of :class:`Guard`. The returned value is the answer; None is 204. A
    message is handled ``once``, which takes the app ``django_webhooks.inbox``: what the handler
    writes is committed together with a row of the inbox, and a repeat is answered with 200 without
    running it. An exception, and an answer of 400 or more, undo both; exceptions are answered with
    500, or 503 for the database's, and ``Retry-After``, so that the sender repeats. With
    ``background`` the message is stored, answered with 202, and handled by a worker, which repeats
    by itself.

    ``name`` tells the messages of views apart, by default module and name of the handler;
    ``owner`` takes the request and returns the tenant whose messages these are. The view is exempt
    from CSRF checks and from Django's LoginRequiredMiddleware, since the signature is the proof.
    """
    guard = Guard(secrets=secrets, scheme=scheme or StandardWebhooks(), **options)
    tolerances.append(guard.tolerance)

    def decorate(handler: Handler) -> Callable[..., HttpResponseBase]:
        handling = _handling(
            handler,
            source=name or f"{handler.__module__}.{handler.__qualname__}",
            once=once,
            background=background,
            keep_payload=keep_payload,
            build_entry=handler,
        )
        handlings.register(handling)

        @functools.wraps(handler)
        def view(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            return answer(guard, handling, request, owner=owner, args=args, kwargs=kwargs)

        setattr(view, wrappers.ATTRIBUTE, handling)
        setattr(view, VERIFIER, (guard.scheme, guard.secrets))
        exempt: Callable[..., HttpResponseBase] = login_not_required(csrf_exempt(view))
        return exempt

    return decorate


@method_decorator(csrf_exempt, name="dispatch")
@method_decorator(login_not_required, name="dispatch")
class WebhookView(View):
    """The same as a class: set ``secrets``, and write ``handle``.

    In a worker ``self.request`` is the request made of what was kept.
    """

    secrets: ClassVar[Any] = None
    scheme: ClassVar[Scheme] = StandardWebhooks()
    #: Further options of :class:`Guard`, by name.
    guard_options: ClassVar[GuardOptions] = {}
    #: The options of :func:`webhook`; an empty name is that of the class.
    name: ClassVar[str] = ""
    once: ClassVar[bool] = True
    background: ClassVar[bool] = False
    keep_payload: ClassVar[bool] = True
    #: What answers senders that ask first; see :class:`Handshake`.
    handshake: ClassVar[Handshake | Sequence[Handshake] | None] = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        tolerances.append(cls.guard_options.get("tolerance", 0))

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        """Return the view, which a worker can find its handler by."""
        view = super().as_view(**initkwargs)

        def run(request: HttpRequest, message: Message, *args: Any, **kwargs: Any) -> Any:
            one = cls(**initkwargs)
            one.setup(request, *args, **kwargs)
            return one.handle(message)

        handling = cls._handling_of(run, build_entry=(cls, initkwargs))
        handlings.register(handling)
        setattr(view, wrappers.ATTRIBUTE, handling)
        setattr(view, VERIFIER, (cls.scheme, cls.secrets))
        return view

    @classmethod
    def _source(cls) -> str:
        return cls.name or f"{cls.__module__}.{cls.__qualname__}"

    @classmethod
    def _handling_of(cls, run: Handler, *, build_entry: Any = None) -> Handling:
        return _handling(
            run,
            source=cls._source(),
            once=cls.once,
            background=cls.background,
            keep_payload=cls.keep_payload,
            written=cls.handle,
            build_entry=build_entry,
        )

    def handle(self, message: Message) -> HttpResponseBase | None:
        """Do what the message asks for; the request is ``self.request``."""
        raise NotImplementedError("Write handle(self, message) in your view.")

    def get_secrets(self, request: HttpRequest) -> Any:
        """Return the secrets; override it to choose them by the request."""
        if self.secrets is None:
            raise ImproperlyConfigured(f"Set secrets, or write get_secrets, in {type(self)!r}.")
        return self.secrets

    def get_owner(self, request: HttpRequest) -> models.Model | OwnerKey | None:
        """Return the tenant whose messages these are; override it where there are several."""
        return None

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Verify, then handle."""
        options: GuardOptions = {"handshake": self.handshake, **self.guard_options}
        guard = Guard(secrets=self.get_secrets, scheme=self.scheme, **options)

        def run(_: HttpRequest, message: Message, *args: Any, **kwargs: Any) -> Any:
            return self.handle(message)

        handling = self._handling_of(run)
        return answer(guard, handling, request, owner=self.get_owner, args=args, kwargs=kwargs)


def _handling(run: Handler, *, written: Handler | None = None, **options: Any) -> Handling:
    if inspect.iscoroutinefunction(written or run):
        raise TypeError("Write the handler of webhooks as a plain function: def, not async def.")
    if len(options["source"]) > MAX_NAME:
        raise ValueError(
            f"The name of a view that takes webhooks has {MAX_NAME} characters at most."
        )
    if options["background"] and not options["once"]:
        raise ValueError("What is handled in the background is stored, and so handled once.")
    if options["background"] and not options["keep_payload"]:
        raise ValueError("What is handled in the background needs its payload until then.")
    return Handling(run=run, **options)


@sensitive_variables()
def answer(
    guard: Guard,
    handling: Handling,
    request: HttpRequest,
    *,
    owner: Owner | None,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> HttpResponseBase:
    """Return the answer to a request: what the handler says, or a plain refusal."""
    guard.hide(request)
    try:
        if (shaken := guard.shake(request)) is not None:
            return shaken
        message = guard.check(request)
        if (shaken := guard.shake_verified(request, message)) is not None:
            return shaken
    except Rejected as rejected:
        return _refuse(guard, handling, request, rejected)
    inboxes.current().flush()
    try:
        if owner is not None:
            message = replace(message, owner=OwnerKey.of(owner(request)))
        return _take(handling, request, message, args, kwargs)
    except InvalidPayload as error:
        path = written_out(request.path)
        logger.warning("A webhook to %s was not understood: %s", path, error)
        return _refuse(guard, handling, request, Rejected(RejectionReason.PAYLOAD, 400, str(error)))
    except (OperationalError, InterfaceError) as error:
        return _repeat_later(request, error, status=503)
    except Exception as error:
        return _repeat_later(request, error, status=500)


def _refuse(
    guard: Guard, handling: Handling, request: HttpRequest, rejected: Rejected
) -> HttpResponse:
    """Count a request that is refused; who sent it learns the kind of reason alone."""
    inboxes.current().count_refusal(handling.source, rejected.reason, guard.client(request))
    response = _plain(rejected.reason, rejected.status)
    # Servers take exact texts alone.
    response.headers[REJECTED] = str(rejected.reason)
    for name, value in rejected.headers.items():
        response.headers[name] = value
    return response


def _take(
    handling: Handling,
    request: HttpRequest,
    message: Message,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> HttpResponseBase:
    """Handle the message now, or store it; raise what goes wrong."""

    def run() -> HttpResponseBase:
        return handling(request, message, *args, **kwargs)

    if not handling.once:
        return run()
    inbox = inboxes.current()
    return inbox.take(handling, request, message, captured=(args, kwargs), run=run)


def _repeat_later(request: HttpRequest, error: Exception, *, status: int) -> HttpResponse:
    """Answer that the message was not handled, as Django would tell of an error of a view."""
    logger.error("A webhook to %s was not handled.", written_out(request.path), exc_info=error)
    got_request_exception.send(sender=None, request=request)
    return _plain("not_handled", status)


def _plain(reason: str, status: int) -> HttpResponse:
    response = HttpResponse(f"{reason}\n", "text/plain", status=status)
    response.headers["Content-Length"] = str(len(response.content))
    if status >= 500:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response
