"""The routes for dances, with real engines behind them and a real store."""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
import uvicorn

from deployments.dance import Compare
from deployments.motion import MediaPipePose
from serve_app.api import http
from serve_app.api.access import Access
from serve_app.api.service import Service
from serve_app.policies.access import AccessRules
from serve_app.policies.prompting import Templates
from serve_app.policies.routing import Model, Router
from serve_app.policies.tables import RoutingTables
from serve_app.services.keys import Grant, Keys
from serve_app.services.references import References
from serve_app.services.store import Store
from serve_app.types import Decision, Event, Job, Kind, Media, Routed

Dances = Callable[..., Media]
FILM = {"seconds": 1.6, "fps": 12}
ROUTES = "/api/v1/kzone/dance"


@pytest.fixture
async def client(
    engine: MediaPipePose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setenv("MEGACITY_HOME", str(tmp_path))
    store = Store(f"sqlite:///{tmp_path}/m.db")
    keys = Keys(store, b"s" * 32)
    engines = {Kind.POSE: engine.run, Kind.DANCE: Compare(Compare.Options(), {"pose": engine.run}).run}

    async def run(job: Job) -> AsyncGenerator[Event]:
        yield Routed(Decision("pose", "pose-full", "1", "core"))
        async for event in engines[job.kind](job):
            yield event

    router = Router(RoutingTables(default="tutor"), {"tutor": Model("tutor", "llm")}, Templates())
    service = Service(
        run, router, dict, access=Access(AccessRules(anonymous=False), keys), references=References(store)
    )
    secrets = [(await keys.create(Grant(tenant)))[1] for tenant in ("seoul", "busan")]
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(http.build(service), log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve([listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=30) as client:
            client.headers["authorization"] = f"Bearer {secrets[0]}"
            client.other = {"authorization": f"Bearer {secrets[1]}"}  # type: ignore[attr-defined]
            yield client
        server.should_exit = server.force_exit = True
        await serving
    await store.close()


def _file(source: Media) -> tuple[str, bytes, str]:
    return "d.mp4", Path(source.path).read_bytes(), "video/mp4"


async def test_a_reference_is_kept_used_and_deleted(client: httpx.AsyncClient, dances: Dances) -> None:
    added = await client.post(f"{ROUTES}/references", files={"video": _file(dances(**FILM))}, data={"name": "첫 춤"})
    assert added.status_code == 200
    card = added.json()
    assert (card["name"], card["frames"], card["duration_s"]) == ("첫 춤", 20, pytest.approx(19 / 12, abs=0.02))
    assert (await client.get(f"{ROUTES}/references")).json()["data"] == [card]

    fields = {"reference_id": card["reference_id"], "keypoints": "true", "language": "en"}
    answer = await client.post(f"{ROUTES}/analyze", files={"video": _file(dances(**FILM))}, data=fields)
    assert answer.status_code == 200
    result = answer.json()
    assert result["score"] > 98
    assert result["feedback"][0].startswith("Score")
    assert len(result["keypoints"]["times"]) == 20
    assert result["joints"]["left_elbow"]["seen"] > 0.5
    assert answer.headers["x-megacity-model"] == "pose-full@1"
    picture = await client.get(result["heatmap_url"])
    assert picture.headers["content-type"] == "image/png"
    assert picture.content.startswith(b"\x89PNG")

    others = client.other  # type: ignore[attr-defined]
    assert (await client.get(f"{ROUTES}/references", headers=others)).json()["data"] == []
    for stranger in (
        client.post(f"{ROUTES}/analyze", files={"video": _file(dances(**FILM))}, data=fields, headers=others),
        client.delete(f"{ROUTES}/references/{card['reference_id']}", headers=others),
        client.delete(f"{ROUTES}/references/none"),
    ):
        refused = await stranger
        assert (refused.status_code, refused.json()["error"]["param"]) == (404, "reference_id")
    assert (await client.delete(f"{ROUTES}/references/{card['reference_id']}")).json()["deleted"]
    gone = await client.post(f"{ROUTES}/analyze", files={"video": _file(dances(**FILM))}, data=fields)
    assert gone.status_code == 404


async def test_what_is_missing_or_wrong_is_named(client: httpx.AsyncClient, dances: Dances, tmp_path: Path) -> None:
    video = {"video": _file(dances(**FILM))}
    text = {"video": ("d.mp4", b"no video", "video/mp4")}
    short = {"video": _file(dances(seconds=0.3))}
    for route, files, data, status, param in (
        ("references", {}, {"name": "x"}, 415, None),
        ("references", video, {}, 400, "name"),
        ("references", text, {"name": "x"}, 415, None),
        ("references", short, {"name": "x"}, 422, "video"),
        ("analyze", video, {}, 400, "reference"),
        ("analyze", video, {"reference_id": "dance_unknown"}, 404, "reference_id"),
        ("analyze", video, {"reference_id": "x", "mirror": "perhaps"}, 400, "mirror"),
        ("analyze", video | {"reference": text["video"]}, {}, 415, "reference"),
    ):
        refused = await client.post(f"{ROUTES}/{route}", files=files or None, data=data)
        assert (refused.status_code, refused.json()["error"]["param"]) == (status, param), (route, data)
