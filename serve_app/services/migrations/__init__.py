"""The schema's versions. `bring_up` is cheap when there is nothing to do, and safe when several start at once."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

FOLDER = Path(__file__).parent
HEAD = max(path.stem for path in FOLDER.glob("versions/[0-9]*.py")).partition("_")[0]  # files are NUMBER_what.py
LOCK = 0x6D656761  # "mega": any number will do, as long as every replica uses the same


class Failed(Exception):
    """The schema could not be brought up to date."""


def bring_up(engine: Engine) -> None:
    """Apply the migrations that `engine`'s database lacks; raises `Failed` or what the driver raises."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if _version(connection) == HEAD:
            return
    with _one_at_a_time(engine) as connection:
        if _version(connection) != HEAD:
            _upgrade(connection)


def _version(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return found


def _upgrade(connection: Connection) -> None:
    from alembic import command  # slow to import, and seldom needed
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise Failed(str(error)) from error


@contextmanager
def _one_at_a_time(engine: Engine) -> Iterator[Connection]:
    """A transaction that no other process's migration runs beside."""
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            yield connection
        return
    with open(f"{engine.url.database}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with engine.begin() as connection:
            yield connection
