"""Forms with files, over real sockets."""

import asyncio
import hashlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from serve_app.policies.limits import Limits
from tests.api.stub import Stub
from tests.media import service

MOST_MEMORY_KIB = 32 * 1024
HEAD = "multipart/form-data; boundary=x"


@pytest.fixture(autouse=True)
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEGACITY_HOME", str(tmp_path))
    return tmp_path / "spool"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    limits = Limits(max_upload_bytes=300_000, max_body_bytes=1_000)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(service.build(Stub(limits)), log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve([listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=5) as client:
            yield client
        server.should_exit = server.force_exit = True
        await serving


def left(spool: Path) -> list[Path]:
    return [path for path in spool.rglob("*") if path.is_file() and path.suffix != ".lock" and path.name != ".sweep"]


def wait_until_gone(spool: Path) -> None:
    """Files go after the answer, so a client may be a moment too early."""
    deadline = time.monotonic() + 2
    while left(spool):
        assert time.monotonic() < deadline, "the file is still there"
        time.sleep(0.01)


async def refused(client: httpx.AsyncClient, **request: Any) -> tuple[int, dict[str, Any]]:
    answer = await client.post("/upload", **request)
    return answer.status_code, answer.json()["error"]


def part(name: str, content: bytes = b"abc", file: str | None = "f") -> bytes:
    named = f'; filename="{file}"' if file is not None else ""
    return f'--x\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + content + b"\r\n"


async def test_a_form_is_read_and_its_files_are_gone_afterwards(client: httpx.AsyncClient, spool: Path) -> None:
    content = os.urandom(200_000)
    answer = await client.post(
        "/upload",
        data={"count": "3", "sure": "true", "words[]": ["a", "나"], "unknown": "ignored"},
        files={"file": ("소리.wav", content, "audio/wav"), "other": ("b", b"\0", "not a type")},
    )
    body = answer.json()
    assert answer.status_code == 200, body
    assert body["wishes"] == {"count": 3, "sure": True, "words": ["a", "나"]}
    assert body["names"] == {"file": "소리.wav", "other": "b"}
    sha256 = hashlib.sha256(content).hexdigest()
    assert body["files"]["file"] == {"size": 200_000, "sha256": sha256, "type": "audio/wav", "mode": "0o600"}
    assert body["files"]["other"]["type"] == ""
    assert all(str(spool) in path for path in body["paths"])
    await asyncio.to_thread(wait_until_gone, spool)
    assert oct(spool.stat().st_mode & 0o777) == "0o700"


@pytest.mark.parametrize(
    ("request_", "status", "says"),
    [
        ({"files": {"other": b"x"}}, 400, "'file' is required"),
        ({"data": {"file": "text"}, "files": {"other": b"x"}}, 400, "'file' is required"),
        ({"files": [("file", b"x"), ("file", b"y")]}, 400, "twice"),
        ({"files": {"file": b"x", "surprise": b"y"}}, 400, "one of another name"),
        ({"files": {"file": b""}}, 400, "empty file"),
        ({"files": {"file": b"x"}, "data": {"count": "many"}}, 400, "'count'"),
        ({"files": {"file": b"x"}, "data": {"count": ["1", "2"]}}, 400, "'count'"),
        ({"json": {"file": "x"}}, 415, "multipart/form-data"),
        ({"data": {"file": "x"}}, 415, "multipart/form-data"),
        ({"files": {"file": b"x"}, "headers": {"content-encoding": "gzip"}}, 415, "Compressed"),
        ({"files": {"file": b"x" * 300_001}}, 413, "300000 bytes"),
        ({"files": {"file": b"x"}, "data": {"text": "x" * 1_001}}, 413, "1000 bytes together"),
        ({"files": {"file": b"x"}, "data": {"a" * 129: "x"}}, 400, "at most 128 characters"),
        ({"files": {"file": b"x"}, "data": {f"f{n}": "" for n in range(64)}}, 400, "at most 64"),
        ({"content": part("file"), "headers": {"content-type": HEAD}}, 400, "cut off"),
        ({"content": part("file") + b"--x-", "headers": {"content-type": HEAD}}, 400, "cut off"),
        ({"content": b"--x\r\nContent-Dispo", "headers": {"content-type": HEAD}}, 400, "cut off"),
        ({"content": b"no form", "headers": {"content-type": HEAD}}, 400, "cut off"),
        ({"content": b"", "headers": {"content-type": HEAD}}, 400, "cut off"),
        ({"content": b"", "headers": {"content-type": "multipart/form-data"}}, 400, "boundary"),
        ({"content": b"--x\r\nA: " + b"b" * 5000, "headers": {"content-type": HEAD}}, 400, "cut off"),
        ({"content": b"--x\r\nA: b\r\n\r\nc\r\n--x--", "headers": {"content-type": HEAD}}, 400, "needs a name"),
        ({"content": part("a", b"\xff", None) + b"--x--", "headers": {"content-type": HEAD}}, 400, "UTF-8"),
    ],
)
async def test_what_is_wrong_is_said(
    client: httpx.AsyncClient, spool: Path, request_: dict[str, Any], status: int, says: str
) -> None:
    got, error = await refused(client, **request_)
    assert (got, says in error["message"]) == (status, True), (got, error)
    assert not left(spool)


async def test_a_body_of_unknown_length_is_refused_when_it_gets_too_long(
    client: httpx.AsyncClient, spool: Path
) -> None:
    async def long() -> AsyncIterator[bytes]:
        yield part("file")[:-2]
        for _ in range(40):
            yield b"x" * 65_536

    status, _ = await refused(client, content=long(), headers={"content-type": HEAD})
    assert status == 413
    assert not left(spool)


async def test_a_client_that_leaves_leaves_nothing(client: httpx.AsyncClient, spool: Path) -> None:
    _, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    writer.write(f"POST /upload HTTP/1.1\r\nhost: x\r\ncontent-type: {HEAD}\r\ncontent-length: 250000\r\n\r\n".encode())
    writer.write(part("other", b"y" * 1000) + part("file", b"x" * 200_000)[:-2])
    await writer.drain()
    while not left(spool):
        await asyncio.sleep(0.01)
    writer.close()
    await asyncio.to_thread(wait_until_gone, spool)


async def test_the_form_is_described(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    schema = document["paths"]["/upload"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(schema["properties"]) == {"file", "other", "count", "sure", "words"}
    assert schema["required"] == ["file"]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[int, str]]:
    """A service in a process of its own: its id and address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    environment = {**os.environ, "MEGACITY_HOME": str(tmp_path)}
    running = subprocess.Popen([sys.executable, "-m", "tests.media.service", str(port)], env=environment)
    try:
        _wait_for(port)
        yield running.pid, f"http://127.0.0.1:{port}"
    finally:
        running.kill()
        running.wait()


def test_200_mb_pass_through_in_bounded_memory(process: tuple[int, str], spool: Path) -> None:
    pid, url = process
    block = os.urandom(1 << 20)
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        assert client.post("/upload", files={"file": block}).status_code == 200
        before = peak_kib(pid)
        body = [part("file", b"")[:-2], *[block] * 200, b"\r\n--x--\r\n"]
        answer = client.post("/upload", content=iter(body), headers={"content-type": HEAD})
    assert answer.json()["files"]["file"]["size"] == 200 << 20
    assert peak_kib(pid) - before <= MOST_MEMORY_KIB
    wait_until_gone(spool)


def peak_kib(pid: int) -> int:
    """The most memory that a process has ever had resident."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.05)
    raise AssertionError("the service did not start")
