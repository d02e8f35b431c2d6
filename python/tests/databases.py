"""Where a Synapse of a test keeps what it knows: a file of SQLite, or a database in a real PostgreSQL."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import pytest

# Nobody: PostgreSQL refuses to be run by root.
NOBODY = 65534
USER = "southbridge"


class Database(Protocol):
    """One of them."""

    def settings(self) -> dict[str, Any]:
        """``database`` of ``homeserver.yaml``."""
        ...

    def rows(self, query: str, *arguments: Any) -> list[Any]:
        """What ``query`` finds with ``arguments`` in it."""
        ...

    def change(self, query: str, *arguments: Any) -> None:
        """Do what ``query`` says, while nobody else does anything."""
        ...


class Sqlite:
    """A file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def settings(self) -> dict[str, Any]:
        return {"name": "sqlite3", "args": {"database": str(self._path)}}

    def rows(self, query: str, *arguments: Any) -> list[Any]:
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=10)) as database:
            return database.execute(query, arguments).fetchall()

    def change(self, query: str, *arguments: Any) -> None:
        with closing(sqlite3.connect(self._path, timeout=10)) as database, database:
            database.execute(query, arguments)


class PostgresDatabase:
    """A database in a server of a test's own. What it finds is text."""

    def __init__(self, server: Postgres, name: str) -> None:
        self._server = server
        self._name = name

    def settings(self) -> dict[str, Any]:
        where = {"host": str(self._server.folder), "user": USER, "dbname": self._name}
        return {"name": "psycopg2", "args": {**where, "cp_min": 1, "cp_max": 5}}

    def rows(self, query: str, *arguments: Any) -> list[Any]:
        return [tuple(row) for row in csv.reader(self._ask(query, arguments).splitlines())]

    def change(self, query: str, *arguments: Any) -> None:
        self._ask(query, arguments)

    def _ask(self, query: str, arguments: tuple[Any, ...]) -> str:
        if arguments:
            raise NotImplementedError("psql knows no arguments: write them into the query")
        return self._server.ask(self._name, query)


class Postgres:
    """A server on a socket in a folder of its own, stopped by its number."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="southbridge-"))
        self._count = 0
        data = self.folder / "data"
        owner = NOBODY if os.geteuid() == 0 else None
        if owner is not None:
            os.chown(self.folder, owner, owner)
        self._as: dict[str, Any] = {"user": owner, "group": owner, "extra_groups": owner and []}
        made = ["--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", f"--username={USER}"]
        done = subprocess.run(
            [program("initdb"), *made, "-D", data],
            cwd=self.folder,
            check=False,
            capture_output=True,
            text=True,
            **self._as,
        )
        assert done.returncode == 0, f"initdb ended with {done.returncode}: {done.stdout}{done.stderr}"
        # It may lose everything when the machine loses power; when a Synapse is killed, nothing.
        quick = ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "listen_addresses="]
        options = [part for setting in quick for part in ("-c", setting)]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [program("postgres"), "-D", data, "-k", self.folder, *options],
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                **self._as,
            )

    def is_up(self) -> bool:
        """Whether it takes questions."""
        assert self._process.poll() is None, (self.folder / "log").read_text()
        return subprocess.run([program("pg_isready"), "-q", "-h", self.folder], check=False).returncode == 0

    def database(self) -> PostgresDatabase:
        """A new one, empty."""
        self._count += 1
        name = f"synapse{self._count}"
        self.ask("postgres", f"CREATE DATABASE {name} TEMPLATE template0")
        return PostgresDatabase(self, name)

    def ask(self, database: str, query: str) -> str:
        """What it answers, as CSV."""
        where: list[str | Path] = ["-h", self.folder, "-U", USER, "-d", database]
        plainly = ["-X", "-q", "-t", "--csv", "-v", "ON_ERROR_STOP=1"]
        answered = subprocess.run(
            [program("psql"), *plainly, *where, "-c", query], check=False, capture_output=True, text=True
        )
        if answered.returncode:
            raise RuntimeError(f"{query}: {answered.stderr}")
        return answered.stdout

    def stop(self) -> None:
        """Let it end as an administrator does who is in a hurry."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(30)
        shutil.rmtree(self.folder)


def program(name: str) -> str:
    """A program of PostgreSQL's. Debian puts them aside; where there is none, the test is skipped."""
    aside = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *map(str, aside)]))
    if found is None:
        pytest.skip(f"there is no {name}, of PostgreSQL")
    return found
