"""Tables of every version become those of this one; later ones are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from shunter.daemon.errors import StoreError
from shunter.daemon.store import engines, migrate, schema
from shunter.daemon.store.lease import open_lease
from shunter.daemon.store.sql_store import SqlStore, open_store
from tests.daemon.store.conftest import Led
from tests.daemon.store.made import submission


def within(url: str, work: Callable[[Connection], object]) -> None:
    engine = engines.writing(engines.place_of(url))
    with engine.connect() as connection, connection.begin():
        work(connection)
    engine.dispose()


def test_the_tables_are_those_of_the_last_step() -> None:
    assert migrate.revisions()[-1] == schema.REVISION


def test_steps_make_the_tables_that_the_code_expects(store: SqlStore) -> None:
    with store.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []


@pytest.mark.parametrize("revision", migrate.revisions())
def test_a_store_of_every_version_is_brought_up(url: str, revision: str, leading: Callable[[str], Led]) -> None:
    within(url, lambda connection: migrate.upgrade(connection, revision))
    led = leading(url)
    led.store.write(submission(1)).result(30)
    assert led.store.job(1) is not None


def test_a_later_version_is_refused_by_name(url: str, leading: Callable[[str], Led]) -> None:
    leading(url).close()
    within(url, lambda connection: connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match=r"9999.*later Shunter"):
        open_store(url)
    with pytest.raises(StoreError, match=r"9999.*later Shunter"):
        open_lease(url, holder="a").acquire(60.0)


def test_a_store_without_tables_is_refused_for_reading(url: str) -> None:
    within(url, lambda connection: connection.exec_driver_sql("SELECT 1"))
    with pytest.raises(StoreError, match="nothing there yet"):
        open_store(url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("mysql://host/x", "not supported"),
        ("nonsense", "no URL"),
        ("sqlite:////no/such/folder/s.db", "does not exist"),
    ],
)
def test_bad_places_are_refused_by_name(url: str, words: str) -> None:
    with pytest.raises(StoreError, match=words):
        open_store(url)


def test_a_folder_that_is_not_there_is_told(tmp_path: object) -> None:
    with pytest.raises(StoreError, match="No such file"):
        open_lease(f"sqlite:///{tmp_path}/none/s.db", holder="a").acquire(60.0)
