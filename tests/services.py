"""Which services run on this machine, and where: environment first, then their usual places."""

from __future__ import annotations

import importlib.util
import os
import socket
from dataclasses import dataclass

#: Name of the tests' database on a server. Runs at the same time need names of their own.
DATABASE_NAME = os.environ.get("TEST_DATABASE_NAME", "django_webhooks_tests")
REQUIRED = os.environ.get("WEBHOOKS_REQUIRE_SERVICES", "") not in {"", "0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A server that tests talk to, and the Python package they need for it."""

    name: str
    host: str
    port: int
    package: str

    def missing(self) -> str:
        """Return why it cannot be used, in one line, or an empty text."""
        if importlib.util.find_spec(self.package) is None:
            return f"{self.name}: the Python package {self.package} is not installed"
        try:
            socket.create_connection((self.host, self.port), timeout=30).close()
        except OSError as error:
            return f"{self.name}: nothing listens on {self.host}:{self.port} ({error})"
        return ""


def _service(name: str, port: int, package: str) -> Service:
    prefix = name.upper()
    return Service(
        name=name,
        host=os.environ.get(f"{prefix}_HOST", "127.0.0.1"),
        port=int(os.environ.get(f"{prefix}_PORT", port)),
        package=package,
    )


SERVICES = {
    "postgres": _service("postgres", 5432, "psycopg"),
    "mariadb": _service("mariadb", 3306, "MySQLdb"),
    "redis": _service("redis", 6379, "redis"),
    "rabbitmq": _service("rabbitmq", 5672, "amqp"),
}
