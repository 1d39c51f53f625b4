"""The site as an application of WSGI and of ASGI."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.acceptance.receiving_site.settings")

from celery import Celery
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application

celery = Celery("site", broker="memory://", set_as_current=True)
wsgi = get_wsgi_application()
asgi = get_asgi_application()
