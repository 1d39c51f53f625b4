"""A harness: a stack of database and broker, and the processes that run on it."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import random
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.receivers import Receiver
from tests.services import SERVICES

#: Seconds that anything may take.
PATIENCE = 120


#: Sockets that keep ports for this process until its end.
_taken: list[socket.socket] = []
atexit.register(lambda: [one.close() for one in _taken])


def free_port() -> int:
    """Return a port on loopback that nothing listens on, that no client and no other run is given.

    Below the range of ephemeral ports: a client that asks a server in vain, again and again, could
    be given the server's own port otherwise, and keep it from starting.
    """
    while True:
        port, mine = random.randrange(20_000, 30_000), socket.socket()
        try:
            # Whoever looks for a free port as well is refused this one, though nothing listens yet.
            mine.bind(("127.0.0.1", port))
        except OSError:
            mine.close()
            continue
        # The server of this test may listen on it: servers set the same option.
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _taken.append(mine)
        return port


def held(receiver: Receiver) -> threading.Event:
    """Have a receiver take what comes, and answer nothing before the event is set."""
    answers, handle = threading.Event(), receiver.handle

    def take(request: BaseHTTPRequestHandler) -> None:
        respond = request.send_response

        def wait(*status: Any) -> None:
            answers.wait(PATIENCE)
            respond(*status)

        request.send_response = wait  # type: ignore[method-assign]
        try:
            handle(request)
        finally:
            request.send_response = respond  # type: ignore[method-assign]

    receiver.handle = take  # type: ignore[method-assign]
    return answers


def until(condition: Callable[[], Any], what: str, *, seconds: float = PATIENCE) -> Any:
    """Return what the condition returns once it is true; fail with ``what`` otherwise."""
    ends = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > ends:
            raise AssertionError(f"After {seconds:.0f} s: {what}")
        time.sleep(0.05)
    return found


#: What may be found in no log and no file of a database.
SIGNING_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PATH = "planted-in-the-path"
QUERY = f"/{PATH}?planted-in-the-query"
AUTHORIZATION = "Bearer planted-in-the-header"


class Console:
    """Runs scripts one after the other, each in a process of its own, without a wait for Django."""

    def __init__(self, environment: dict[str, str], code: Path | None) -> None:
        self._files = tempfile.TemporaryDirectory()
        self._child = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.acceptance.site.console"],
            env=environment,
            cwd=code,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            assert self._answer() == "ready."
        except BaseException:
            self.close()
            raise

    def run(self, script: str) -> str:
        """Return what the script wrote; fail with its errors where it failed."""
        output, errors = Path(self._files.name, "output"), Path(self._files.name, "errors")
        request = {"script": script, "output": str(output), "errors": str(errors)}
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(request).encode() + b"\n")
        self._child.stdin.flush()
        assert self._answer() == "0", errors.read_text()
        return output.read_text()

    def close(self) -> None:
        """End it, and what it runs."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.communicate()
        self._files.cleanup()

    def _answer(self) -> str:
        assert self._child.stdout is not None
        is_there, _, _ = select.select([self._child.stdout], [], [], PATIENCE)
        assert is_there, f"A script was not over after {PATIENCE} s."
        return self._child.stdout.readline().decode().strip()


class Harness:
    """One stack, its processes, and the means to break them."""

    def __init__(
        self, folder: Path, *, database: str, broker: str, options: dict[str, Any] | None = None
    ) -> None:
        self.folder, self.database, self.broker = folder, database, broker
        self.options = options or {}
        self.queue = f"webhooks-tests-{uuid.uuid4().hex}"
        #: Settings of the site, and constants of the package by path (see ``site/settings.py``).
        self.settings: dict[str, Any] = {}
        #: A recipe of the documentation, which the settings end with.
        self.recipe = ""
        self.children: list[subprocess.Popen[bytes]] = []
        self.site = ""
        #: By their environment and code, those that run nothing now.
        self._consoles: dict[str, list[Console]] = {}

    def environment(self, **changed: str) -> dict[str, str]:
        """Return the environment of a process on this harness."""
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.acceptance.site.settings",
            "ACCEPTANCE_DATABASE": self.database,
            "ACCEPTANCE_BROKER": self.broker,
            "ACCEPTANCE_BROKER_OPTIONS": json.dumps(self.options),
            "ACCEPTANCE_QUEUE": self.queue,
            "ACCEPTANCE_FOLDER": str(self.folder),
            "ACCEPTANCE_SETTINGS": json.dumps(self.settings),
            "ACCEPTANCE_RECIPE": self.recipe,
            **changed,
        }

    def start(
        self,
        *arguments: str,
        ready: str,
        wait: bool = True,
        shift: float = 0,
        code: Path | None = None,
        **environment: str,
    ) -> subprocess.Popen[bytes]:
        """Start a Python module in a process group of its own, and wait until it is ready.

        ``shift`` is by how many seconds its clock is wrong; ``code`` the folder with other code.
        """
        if shift:
            arguments = ("tests.acceptance.site.shifted", str(shift), *arguments)
        log = self.folder / f"{len(self.children)}-{arguments[0].rsplit('.')[-1]}.log"
        with log.open("wb") as output:
            child = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", *arguments],
                env=self.environment(**environment),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=code,
            )
        self.children.append(child)

        def is_ready() -> bool:
            text = log.read_text(errors="replace")
            assert child.poll() is None, f"{arguments} ended with {child.returncode}: {text}"
            return ready in text

        if wait:
            until(is_ready, f"{arguments} was not ready")
        return child

    def worker(
        self, *, pool: str = "prefork", concurrency: int = 2, **how: Any
    ) -> subprocess.Popen[bytes]:
        """Start a Celery worker."""
        return self.start(
            "celery", "-A", "tests.acceptance.site.celery", "worker", "-P", pool,
            "-c", str(concurrency), "-l", "info", "-n", f"{uuid.uuid4().hex}@%h",
            ready="ready.", **how,
        )  # fmt: skip

    def beat(self, **how: Any) -> subprocess.Popen[bytes]:
        """Start a beat, whose sweep runs each second."""
        return self.start(
            "celery", "-A", "tests.acceptance.site.celery", "beat", "-l", "info", "--pidfile=",
            ready="beat: Starting", **how,
        )  # fmt: skip

    def web(self, **how: Any) -> subprocess.Popen[bytes]:
        """Start the web process."""
        port = free_port()
        self.site = f"http://127.0.0.1:{port}/"
        return self.serve(port, **how)

    def serve(self, port: int, **how: Any) -> subprocess.Popen[bytes]:
        """Start one more web process, at a port."""
        return self.start("tests.acceptance.site.web", str(port), ready="ready.", **how)

    def ask(self, name: str, how: str = "well") -> dict[str, Any] | None:
        """Have the web process create a thing; None where it failed."""
        from urllib.parse import urlencode

        query = urlencode({"name": name, "how": how})
        try:
            with urlopen(Request(f"{self.site}things/?{query}"), timeout=PATIENCE) as answer:
                found: dict[str, Any] = json.loads(answer.read())
                return found
        except (HTTPException, OSError, ValueError):
            # One that was killed meanwhile may have begun to answer.
            return None

    def python(self, script: str, *, code: Path | None = None) -> Any:
        """Run a script in a process of the site, and return the JSON that it prints last."""
        environment = self.environment()
        # One for each thread that asks at the same time; a change of settings needs a new one.
        idle = self._consoles.setdefault(json.dumps([environment, str(code)]), [])
        console = idle.pop() if idle else Console(environment, code)
        try:
            printed = console.run(script)
        except BaseException:
            console.close()
            raise
        idle.append(console)
        return json.loads(printed.splitlines()[-1]) if printed.strip() else None

    def migrate(self) -> None:
        """Make the tables."""
        self.python(
            "from django.core.management import call_command\n"
            "call_command('migrate', run_syncdb=True, verbosity=0)"
        )

    def subscribe(self, url: str) -> None:
        """Subscribe a receiver to everything."""
        self.python(
            "from django_webhooks.models import *\n"
            "s = Subscription.objects.create(name='test', event_types=['*'],"
            f" signing_secret={SIGNING_SECRET!r})\n"
            f"Endpoint.objects.create(subscription=s, url={url + QUERY!r},"
            f" authorization={AUTHORIZATION!r})"
        )

    def subscribe_pair(self, *urls: str, **fields: Any) -> None:
        """Subscribe a primary and backups to everything."""
        self.python(
            "from django_webhooks.models import *\n"
            "s = Subscription.objects.create(name='test', event_types=['*'],"
            f" signing_secret={SIGNING_SECRET!r}, **{fields!r})\n"
            f"for position, url in enumerate({urls!r}):\n"
            f"    Endpoint.objects.create(subscription=s, url=url + {QUERY!r}, position=position,"
            f" authorization={AUTHORIZATION!r})"
        )

    def switches(self) -> list[list[Any]]:
        """Return the causes of all switches, and when they were, in seconds of this machine."""
        found: list[list[Any]] = self.python(
            "from django_webhooks.models import Switch\n"
            "print(json.dumps([[s.cause, s.created_at.timestamp()]"
            " for s in Switch.objects.order_by('pk')]))"
        )
        return found

    def candidates(self) -> list[dict[str, Any]]:
        """Return the health of the endpoints, the primary first."""
        found: list[dict[str, Any]] = self.python(
            "from django_webhooks.models import EndpointHealth\n"
            "print(json.dumps(list(EndpointHealth.objects.order_by('endpoint__position')"
            ".values('state', 'is_active', 'hold_seconds', 'slow_start_released', 'reason'))))"
        )
        return found

    def attempts(self) -> list[list[Any]]:
        """Return each attempt: host, outcome, reason."""
        found: list[list[Any]] = self.python(
            "from django_webhooks.models import Attempt\n"
            "print(json.dumps([list(row) for row in Attempt.objects.order_by('pk')"
            ".values_list('endpoint_host', 'outcome', 'reason')]))"
        )
        return found

    def emit(self, count: int) -> None:
        """Record things and their events without telling a worker."""
        self.python(
            "from django_webhooks.sending import recording\n"
            "from tests.acceptance.site.models import Thing\n"
            f"things = Thing.objects.bulk_create([Thing(name=str(n)) for n in range({count})])\n"
            "recording.record([recording.Draft(event_type='thing.created',"
            " data={'id': t.pk, 'name': t.name}) for t in things], using='default')"
        )

    def fan_out(self) -> None:
        """Make the deliveries of what was recorded, without telling a worker of them."""
        self.python(
            "from django_webhooks.sending.fan_out import fan_out\nfan_out.make_all(using='default')"
        )

    def committed(self) -> set[int]:
        """Return the keys of the things that were committed."""
        return set(
            self.python(
                "from tests.acceptance.site.models import Thing\n"
                "print(json.dumps(list(Thing.objects.values_list('pk', flat=True))))"
            )
        )

    def statuses(self) -> dict[str, int]:
        """Return how many deliveries there are, by status."""
        found: dict[str, int] = self.python(
            "from django.db.models import Count\nfrom django_webhooks.models import Delivery\n"
            "print(json.dumps(dict(Delivery.objects.order_by().values_list('status')"
            ".annotate(Count('pk')))))"
        )
        return found

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the database from this process, which has no part in anything."""
        if self.database.startswith("sqlite"):
            path = self.database.removeprefix("sqlite:///")
            with contextlib.closing(sqlite3.connect(path, timeout=20)) as file:
                return file.execute(sql).fetchall()
        import psycopg

        with psycopg.connect(self.database, autocommit=True) as server:
            cursor = server.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def purge(self) -> None:
        """Lose every message that waits in the broker."""
        self.python("tests.acceptance.site.celery.app.control.purge()")

    def forget_queue(self) -> None:
        """Remove the queues from the broker."""
        self.python(
            "app = tests.acceptance.site.celery.app\n"
            "with app.connection_for_write() as connection:\n"
            "    for queue in app.conf.task_queues:\n"
            "        connection.default_channel.queue_delete(queue.name)"
        )

    def stop(self, child: subprocess.Popen[bytes], signum: int = signal.SIGTERM) -> None:
        """Signal a process, or its whole group where it is killed, and wait for its end."""
        if child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                if signum == signal.SIGKILL:
                    os.killpg(child.pid, signum)
                else:
                    child.send_signal(signum)
        child.wait(PATIENCE)

    def leaks(self) -> list[str]:
        """Return what of the planted secrets stands in a log, or in a database that is a file."""
        files = [*self.folder.glob("*.log"), *self.folder.glob("site.sqlite3*")]
        content = {file.name: file.read_bytes() for file in files}
        return [
            f"{secret} in {name}"
            for name, data in content.items()
            for secret in (
                SIGNING_SECRET.removeprefix("whsec_"),
                PATH,
                QUERY.partition("?")[2],
                AUTHORIZATION,
            )
            if secret.encode() in data
        ]

    def descendants(self, child: subprocess.Popen[bytes]) -> list[int]:
        """Return the processes that a process has started itself: those of a worker's pool."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                pid, rest = stat.parent.name, stat.read_text().rpartition(")")[2].split()
                if int(rest[1]) == child.pid:
                    found.append(int(pid))
        return sorted(found)

    def log(self, child: subprocess.Popen[bytes]) -> str:
        """Return what a process has written."""
        (path,) = self.folder.glob(f"{self.children.index(child)}-*.log")
        return path.read_text(errors="replace")

    def close(self) -> None:
        """End everything that was started."""
        for idle in self._consoles.values():
            for console in idle:
                console.close()
        for child in reversed(self.children):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait(PATIENCE)


class Proxy:
    """Stands between a process and a server: passes, refuses, or swallows all that is sent."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.port = free_port()
        self.swallows = False
        self._listener: socket.socket | None = None
        self._connections: list[socket.socket] = []
        self.accept()

    def accept(self) -> None:
        """Listen, and pass on what comes."""
        self.swallows = False
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def refuse(self) -> None:
        """Listen no more, and cut all connections."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.cut()

    def cut(self) -> None:
        """Cut all connections, and go on listening."""
        connections, self._connections = self._connections, []
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _serve(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                try:
                    far = socket.create_connection(self.target)
                except OSError:
                    near.close()
                    continue
                self._connections += [near, far]
                if self._listener is not listener:
                    # It was refused while this one came.
                    self.cut()
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                while self.swallows:
                    time.sleep(0.05)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@contextmanager
def postgres_database(*, template: str = "template1") -> Iterator[str]:
    """Create a database of its own, a copy of the template, and yield its URL."""
    import psycopg

    service = SERVICES["postgres"]
    user = os.environ.get("POSTGRES_USER", "postgres")
    password = os.environ.get("POSTGRES_PASSWORD", "")
    name = f"webhooks_tests_{uuid.uuid4().hex}"
    with psycopg.connect(
        host=service.host,
        port=service.port,
        user=user,
        password=password,
        dbname="postgres",
        autocommit=True,
    ) as server:
        server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        try:
            yield f"postgres://{user}:{password}@{service.host}:{service.port}/{name}"
        finally:
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def mariadb_database() -> Iterator[str]:
    """Create a database of its own, and yield its URL."""
    import MySQLdb

    service = SERVICES["mariadb"]
    user = os.environ.get("MARIADB_USER", "root")
    password = os.environ.get("MARIADB_PASSWORD", "")
    name = f"webhooks_tests_{uuid.uuid4().hex}"
    server = MySQLdb.connect(
        host=service.host, port=service.port, user=user, password=password, autocommit=True
    )
    with contextlib.closing(server), server.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        try:
            yield f"mysql://{user}:{password}@{service.host}:{service.port}/{name}"
        finally:
            cursor.execute(f"DROP DATABASE `{name}`")


def empty_mariadb(url: str) -> None:
    """Remove all rows but those that migrations wrote."""
    import MySQLdb

    service, name = SERVICES["mariadb"], url.rpartition("/")[2]
    server = MySQLdb.connect(
        host=service.host,
        port=service.port,
        user=os.environ.get("MARIADB_USER", "root"),
        password=os.environ.get("MARIADB_PASSWORD", ""),
        database=name,
        autocommit=True,
    )
    with contextlib.closing(server), server.cursor() as cursor:
        cursor.execute("SET foreign_key_checks = 0")
        cursor.execute("SHOW TABLES")
        for (table,) in cursor.fetchall():
            if table not in {"django_migrations", "django_content_type", "auth_permission"}:
                cursor.execute(f"DELETE FROM `{table}`")


class Bouncer:
    """A PgBouncer in transaction mode before a PostgreSQL server, with few connections to it."""

    def __init__(self, folder: Path, *, connections: int) -> None:
        service = SERVICES["postgres"]
        self.port = free_port()
        program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        password = os.environ.get("POSTGRES_PASSWORD", "")
        user = os.environ.get("POSTGRES_USER", "postgres")
        server = f"host={service.host} port={service.port} user={user}"
        server += password and f" password={password}"
        settings = folder / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n* = {server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {self.port}\nunix_socket_dir =\nauth_type = any\n"
            f"pool_mode = transaction\ndefault_pool_size = {connections}\n"
            "max_client_conn = 200\nignore_startup_parameters = extra_float_digits\n"
        )
        # It refuses to run as root.
        account: dict[str, Any] = {"user": "postgres"} if os.geteuid() == 0 else {}
        with (folder / "pgbouncer.log").open("wb") as log, settings.open("rb") as told:
            self.child = subprocess.Popen(
                [program, "/dev/stdin"],
                stdin=told,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                **account,
            )
        until(self._answers, "PgBouncer was not ready")

    def _answers(self) -> bool:
        assert self.child.poll() is None
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def before(self, url: str) -> str:
        """Return the URL of a database as it is reached through this."""
        name = url.rpartition("/")[2]
        user = os.environ.get("POSTGRES_USER", "postgres")
        return f"postgres://{user}@127.0.0.1:{self.port}/{name}"

    def close(self) -> None:
        """Stop it."""
        self.child.kill()
        self.child.wait(PATIENCE)


class PrivatePostgres:
    """A PostgreSQL server that a test may restart.

    Its folder is beside those of pytest, which each run of pytest closes to other accounts.
    """

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        self.programs = found[-1] if found else Path(shutil.which("initdb") or "").parent
        self.folder, self.port = Path(tempfile.mkdtemp(prefix="webhooks-")), free_port()
        # It refuses to run as root.
        self.account: dict[str, Any] = {"user": "postgres"} if os.geteuid() == 0 else {}
        if self.account:
            shutil.chown(self.folder, "postgres")
        self.run("initdb", "-D", str(self.folder / "data"), "-U", "postgres", "-A", "trust", "-N")
        self.start()

    @property
    def url(self) -> str:
        """The URL of its database."""
        return f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    def run(self, program: str, *arguments: str) -> None:
        """Run one of its programs; raise with what it and the server said where it fails."""
        said = self.folder / "said"
        # No pipe, which the server would inherit and keep open.
        with said.open("wb") as output:
            ended = subprocess.run(
                [str(self.programs / program), *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=2 * PATIENCE,
                cwd=self.folder,
                **self.account,
            )
        if ended.returncode:
            log = self.folder / "log"
            told = log.read_text()[-2000:] if log.exists() else ""
            raise AssertionError(f"{program} {arguments}: {said.read_text()}\n{told}")

    def start(self) -> None:
        """Start it."""
        options = f"-p {self.port} -h 127.0.0.1 -k {self.folder} -F"
        log = str(self.folder / "log")
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        """Stop it, and cut every connection."""
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", "fast", "stop")

    def close(self) -> None:
        """See that it is stopped, whatever became of it, and remove its files."""
        with contextlib.suppress(subprocess.SubprocessError, AssertionError):
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
