"""What both databases keep to: what is acknowledged is there for everybody, and what is deleted is nowhere."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from serve_app.errors import ConfigError, NotFound, Unavailable
from tests.postgres import Server
from tests.rag.conftest import HEART, RULES, Asked, Build

PROJECT = Path(__file__).parents[2]


@pytest.fixture(params=["sqlite", "postgresql"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/documents.db"
    server: Server = request.getfixturevalue("postgres")
    name = f"rag{abs(hash(str(tmp_path)))}"
    engine = sa.create_engine(server.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.url.removesuffix("/postgres") + f"/{name}"


@pytest.fixture
async def rag(build: Build, url: str) -> Asked:
    return await build(url=url)


async def test_both_languages_are_found(rag: Asked) -> None:
    await rag.add(RULES)
    await rag.add(HEART)
    korean = await rag.ask("책은 한 번에 몇 권 빌릴 수 있나요?")
    assert korean["found"]
    assert "일곱 권" in korean["answer"]
    english = await rag.ask("Which part of the heart has the strongest wall?")
    assert english["found"]
    assert "left ventricle" in english["answer"]


async def test_two_replicas_see_each_others_documents(build: Build, url: str) -> None:
    one, other = await build(url=url), await build(url=url)
    assert not (await other.ask("Where does gas exchange take place?"))["found"]
    document = await one.add(HEART)
    assert (await other.ask("Where does gas exchange take place?"))["found"]
    assert [d["id"] for d in (await other.documents())["documents"]] == [document["id"]]
    more = await other.add("Volcanoes: thin lava flows far and builds flat shield volcanoes.")
    assert (await one.ask("What shape does runny lava build?"))["found"]
    await other.delete(document["id"])
    assert not (await one.ask("Where does gas exchange take place?"))["found"]
    assert [d["id"] for d in (await one.documents())["documents"]] == [more["id"]]


async def test_adding_the_same_again_is_the_same_document(build: Build, url: str) -> None:
    one, other = await build(url=url), await build(url=url)
    added = await asyncio.gather(*(engine.add(HEART) for engine in (one, other)))
    assert added[0]["id"] == added[1]["id"] == (await one.add(HEART))["id"]
    assert len((await one.documents())["documents"]) == 1
    assert len((await one.ask("alveoli", answer=False))["citations"]) == 2


async def test_a_collection_is_nobody_elses(rag: Asked) -> None:
    document = await rag.add(HEART, "1:a:default")
    answer = await rag.ask("Where does gas exchange take place?", "1:b:default")
    assert not answer["found"]
    assert answer["citations"] == []
    assert (await rag.documents("1:b:default"))["documents"] == []
    with pytest.raises(NotFound):
        await rag.delete(document["id"], "1:b:default")
    other = await rag.add(HEART, "1:b:default")
    assert other["id"] != document["id"]
    await rag.delete(other["id"], "1:b:default")
    assert (await rag.ask("Where does gas exchange take place?", "1:a:default"))["found"]


async def test_among_many_collections_each_gets_all_that_it_has(rag: Asked) -> None:
    """An index that is filtered afterwards would come back with too few."""
    for number in range(12):
        notes = "\n".join(f"## Note {n}\nThe tides of day {n} are raised by the moon." for n in range(5))
        await rag.add(notes, f"1:{number}:x")
    for number in (0, 11):
        found = (await rag.ask("What raises the tides?", f"1:{number}:x", answer=False))["citations"]
        assert len(found) == 5


async def test_deleted_is_gone_from_every_table(rag: Asked, url: str) -> None:
    document = await rag.add(RULES)
    await rag.delete(document["id"])
    with pytest.raises(NotFound):
        await rag.delete(document["id"])
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        for table in ("documents", "passages", "postings"):
            assert connection.scalar(sa.text(f"SELECT COUNT(*) FROM rag_{table}")) == 0
    engine.dispose()
    assert not (await rag.ask("책은 몇 권 빌리나요?"))["found"]
    assert (await rag.add(RULES))["id"] == document["id"]
    assert (await rag.ask("책은 몇 권 빌리나요?"))["found"]


async def test_lists_go_on_where_they_ended(build: Build, url: str) -> None:
    rag = await build(url=url, page_documents=2)
    added = [(await rag.add(f"Note number {n} about tides."))["id"] for n in range(5)]
    seen: list[str] = []
    page = await rag.documents()
    while True:
        seen += [one["id"] for one in page["documents"]]
        if not page["has_more"]:
            break
        page = await rag.documents(after=seen[-1])
    assert seen == added[::-1]
    with pytest.raises(NotFound):
        await rag.documents(after="doc_of_somebody_else")


async def test_vectors_of_another_encoder_are_refused(rag: Asked, build: Build, url: str) -> None:
    await rag.add(HEART)
    with pytest.raises(ConfigError, match="vectors"):
        await build(url=url, vectors="e5-large-v2")


async def test_no_byte_of_a_deleted_document_stays_in_the_files(build: Build, tmp_path: Path) -> None:
    """In SQLite, where the files are ours: neither the database nor its log."""
    rag = await build()
    document = await rag.add("The password of the vault is xyzzycanary.")
    assert any(b"xyzzycanary" in file.read_bytes() for file in tmp_path.glob("documents.db*"))
    await rag.delete(document["id"])
    assert not any(b"xyzzycanary" in file.read_bytes() for file in tmp_path.glob("documents.db*"))


async def test_an_acknowledged_document_survives_a_crash(build: Build, tmp_path: Path) -> None:
    program = f"""
import asyncio, os
from deployments.rag import Retriever
from serve_app.types import Documents, Job, Kind
async def main():
    engine = Retriever(Retriever.Options(url="sqlite:///{tmp_path}/documents.db"))
    await engine.load()
    async for _ in engine.run(Job("job", Kind.DOCUMENTS, Documents("school", "add", content={RULES!r}))):
        pass
    os.kill(os.getpid(), {int(signal.SIGKILL)})
asyncio.run(main())
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (await (await build()).ask("책은 몇 권 빌릴 수 있나요?"))["found"]


async def test_a_store_that_is_away_says_so(build: Build, postgres: Server) -> None:
    nowhere = postgres.url.replace(str(postgres.port), "1")
    with pytest.raises(Unavailable, match="away"):
        await build(url=nowhere)
