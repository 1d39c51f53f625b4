"""Views: a decorator and a class whose handler sees verified messages alone."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_variables

from ..exceptions import InvalidSecret
from .guard import Guard, Rejected
from .message import Message
from .schemes import Scheme, StandardWebhooks

Handler = Callable[..., HttpResponseBase | None]

#: The tolerances of the views there are, for the system check.
tolerances: list[int] = []


def webhook(**options: Any) -> Callable[[Handler], Callable[..., HttpResponseBase]]:
    """Let a view handle verified messages: it is called with the request and the message.

    The options are those of :class:`Guard`. What it returns is the answer; None is 204. What it
    raises is answered with 500, so that the sender repeats. The view is exempt from CSRF checks and
    from Django's LoginRequiredMiddleware, since the signature is the proof.
    """
    guard = Guard(**options)
    tolerances.append(guard.tolerance)

    def decorate(handler: Handler) -> Callable[..., HttpResponseBase]:
        @functools.wraps(handler)
        def view(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            return answer(guard, request, lambda one: handler(request, one, *args, **kwargs))

        exempt: Callable[..., HttpResponseBase] = login_not_required(csrf_exempt(view))
        return exempt

    return decorate


@method_decorator(csrf_exempt, name="dispatch")
@method_decorator(login_not_required, name="dispatch")
class WebhookView(View):
    """The same as a class: set ``secrets``, and write ``handle``."""

    secrets: ClassVar[Any] = None
    scheme: ClassVar[Scheme] = StandardWebhooks()
    #: Further options of :class:`Guard`, by name.
    guard_options: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        tolerances.append(cls.guard_options.get("tolerance", 0))

    def handle(self, message: Message) -> HttpResponseBase | None:
        """Do what the message asks for; the request is ``self.request``."""
        raise NotImplementedError("Write handle(self, message) in your view.")

    def get_secrets(self, request: HttpRequest) -> Any:
        """Return the secrets; override it to choose them by the request."""
        if self.secrets is None:
            raise ImproperlyConfigured(f"Set secrets, or write get_secrets, in {type(self)!r}.")
        return self.secrets

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Verify, then handle."""
        guard = Guard(secrets=self.get_secrets, scheme=self.scheme, **self.guard_options)
        return answer(guard, request, self.handle)


@sensitive_variables()
def answer(
    guard: Guard, request: HttpRequest, handle: Callable[[Message], HttpResponseBase | None]
) -> HttpResponseBase:
    """Return the answer to a request: what the handler says, or a plain refusal."""
    try:
        message = guard.check(request)
    except Rejected as rejected:
        # Who is refused learns the kind of reason, not what was expected.
        response = HttpResponse(f"{rejected.reason}\n", "text/plain", status=rejected.status)
        if rejected.status == 405:
            response.headers["Allow"] = "POST"
        return response
    except InvalidSecret as error:
        raise ImproperlyConfigured(f"A secret of this webhook is malformed: {error}") from None
    found = handle(message)
    return HttpResponse(status=204) if found is None else found
