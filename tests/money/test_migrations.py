"""The schema: made once, by whoever comes first, and the same as the code expects."""

from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from serve_app.services import migrations
from serve_app.services.ledger import ACCOUNTS, LEDGER, OWNERS
from serve_app.services.store import Store, _engine


async def test_the_tables_are_what_the_ledger_expects(store: Store) -> None:
    def columns(connection: sa.Connection) -> dict[str, set[str]]:
        looked = sa.inspect(connection)
        return {name: {column["name"] for column in looked.get_columns(name)} for name in looked.get_table_names()}

    found = await store.read(columns)
    for table in (LEDGER, ACCOUNTS, OWNERS):
        assert found[table.name] == {column.name for column in table.columns}


def test_many_replicas_may_start_at_once(url: str) -> None:
    engines = [_engine(sa.make_url(url)) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(migrations.bring_up, engines))
    with engines[0].connect() as connection:
        assert connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == migrations.HEAD
    for engine in engines:
        engine.dispose()


def test_the_newest_file_is_the_head_of_one_line() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations.FOLDER))
    assert ScriptDirectory.from_config(config).get_heads() == [migrations.HEAD]
