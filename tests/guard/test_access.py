"""Who is let in, for what, and at which priority: through real doors."""

import contextlib
import io
import itertools

import grpc
import httpx
import pytest

from serve_app import logs
from serve_app.api import grpc as grpc_door
from serve_app.api.proto import megacity_pb2_grpc
from serve_app.api.proto.megacity_pb2 import GenerateRequest
from serve_app.policies.access import READY_KEYS, SCOPES, AccessRules, scope_of
from serve_app.stages.guard import guard
from serve_app.types import Caller, Chat, Constraints, Job, Kind, Message, Priority
from tests.client.conftest import listening
from tests.guard.conftest import House, ask, bearer

ANONYMOUS = AccessRules(anonymous=True)
TIERS = {"priority": Priority.PREMIUM, "default": Priority.STANDARD, "flex": Priority.BATCH, None: Priority.PREMIUM}
WRONG = [
    "Bearer",
    "Bearer sk-mc-" + "A" * 43,
    "Bearer sk-mc-' OR 1=1 --",
    "Bearer sk-mc-" + "A" * 42 + "%",
    "Bearer sk-mc-" + "A" * 43 + "#fragment",
    "Bearer sk-local-premium2",
    "Bearer " + "A" * 20_000,
    "Basic c2stbG9jYWwtcHJlbWl1bTo=",
    "sk-local-premium",
    "Bearer \xff\xfe\xe9",
    "Bearer sk-local-standard sk-local-premium",
    "Bearer \u00a0sk-local-standard\u00a0\u00a0x",
]


async def send(client: httpx.AsyncClient, *authorization: str) -> httpx.Response:
    headers = [(b"authorization", value.encode("latin-1")) for value in authorization]
    return await client.get("/v1/models", headers=headers)


@pytest.mark.parametrize("rules", [AccessRules(), ANONYMOUS], ids=["keys", "anonymous"])
async def test_a_wrong_key_is_refused_everywhere(house: House, rules: AccessRules) -> None:
    async with house.door(rules) as client:
        for value in WRONG:
            answer = await send(client, value)
            assert answer.status_code == 401, value
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["error"]["code"] == "invalid_api_key"
            assert value.removeprefix("Bearer ") not in answer.text or len(value) < 10
        two = await send(client, f"Bearer {await house.key()}", "Bearer sk-local-premium")
        assert two.status_code == 401


async def test_without_a_key(house: House) -> None:
    async with house.door() as client:
        refused = await ask(client)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "missing_api_key")
        for path in ("/v1/models", "/nowhere", "/api/v1/admin/keys", "/metrics", "//healthz", "/healthz/", "/DOCS"):
            assert (await client.get(f"{str(client.base_url).rstrip('/')}{path}")).status_code == 401
        for path in ("/healthz", "/readyz", "/openapi.json", "/docs", "/docs/assets/swagger-ui.css"):
            assert (await client.get(path)).status_code == 200
    async with house.door(ANONYMOUS) as client:
        assert (await ask(client)).status_code == 200
    assert house.stub.jobs[0].caller == Caller()


@pytest.mark.parametrize("key", READY_KEYS)
async def test_ready_keys_are_for_anonymous_services_only(house: House, key: str) -> None:
    async with house.door(ANONYMOUS) as client:
        assert (await ask(client, key)).status_code == 200
    assert house.stub.jobs[0].caller.tier.name.lower() == key.rpartition("-")[2]
    async with house.door() as client:
        assert (await ask(client, key)).status_code == 401


async def test_a_job_has_what_its_key_has(house: House) -> None:
    secret = await house.key(tier=Priority.BATCH, zones=("campus",), budget_nano_usd=5, tokens_per_minute=9_000)
    async with house.door(AccessRules(requests_per_minute=7, tokens_per_minute=8)) as client:
        await ask(client, secret, user="pupil-1")
    (key,) = await house.keys.list()
    assert house.stub.jobs[0].caller == Caller(
        "acme", Priority.BATCH, ("campus",), "pupil-1", key.id, frozenset({"inference"}), 7, 9_000, 5
    )


@pytest.mark.parametrize(("tier", "asked"), list(itertools.product(Priority, TIERS)))
async def test_priority_is_only_ever_lowered(house: House, tier: Priority, asked: str | None) -> None:
    secret = await house.key(tier=tier)
    async with house.door() as client:
        await ask(client, secret, service_tier=asked)
    assert house.stub.jobs[0].constraints.priority == max(tier, TIERS[asked])


async def test_the_stage_lowers_what_a_handle_asks(house: House) -> None:
    job = Job("j", Kind.CHAT, Chat((Message("user", "hi"),)), Caller(tier=Priority.BATCH))
    job = Job("j", Kind.CHAT, job.payload, job.caller, constraints=Constraints(Priority.PREMIUM))
    _ = [event async for event in guard(house.rates)(house.stub.run)(job)]
    assert house.stub.jobs[0].constraints.priority == Priority.BATCH


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        (("inference",), {"chat", "completion", "route"}),
        (("chat",), {"chat", "completion", "route"}),
        (("metrics",), set()),
        (("finops",), set()),
        (("admin",), {"chat", "completion", "route", "keys"}),
    ],
)
async def test_scopes(house: House, scopes: tuple[str, ...], allowed: set[str]) -> None:
    headers = bearer(await house.key(scopes=scopes))
    chat = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
    async with house.door() as client:
        answers = {
            "chat": await client.post("/v1/chat/completions", json=chat, headers=headers),
            "completion": await client.post("/v1/completions", json={"model": "auto", "prompt": "a"}, headers=headers),
            "route": await client.post("/api/v1/ai/route", json=chat, headers=headers),
            "keys": await client.get("/api/v1/admin/keys", headers=headers),
        }
    assert {name for name, answer in answers.items() if answer.status_code == 200} == allowed
    assert {answer.status_code for answer in answers.values()} <= {200, 403}


def test_every_kind_has_a_scope() -> None:
    assert {scope_of(kind) for kind in Kind} <= set(SCOPES)


@pytest.mark.parametrize(
    ("zones", "asked", "status"),
    [((), "campus", 200), (("campus",), "campus", 200), (("other",), "campus", 403), (("other",), None, 200)],
)
async def test_zones(house: House, zones: tuple[str, ...], asked: str | None, status: int) -> None:
    secret = await house.key(zones=zones)
    async with house.door() as client:
        answer = await ask(client, secret, metadata={"zone": asked} if asked else None)
        named = await ask(client, secret, model=asked or "auto")
    assert (answer.status_code, named.status_code) == (status, status)


async def test_grpc(house: House) -> None:
    secret = await house.key(tier=Priority.STANDARD, requests_per_minute=1)
    door = await grpc_door.listen(house.service(), "127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{door.port}") as channel:
        llm = megacity_pb2_grpc.LLMServiceStub(channel)
        request = GenerateRequest(prompt="hi", priority=GenerateRequest.PREMIUM)
        call = llm.Generate(request, metadata=(("authorization", f"Bearer {secret}"),))
        await call
        assert ("x-ratelimit-remaining-requests", "0") in list(await call.initial_metadata())
        for metadata, code in [
            ((("authorization", f"Bearer {secret}"),), grpc.StatusCode.RESOURCE_EXHAUSTED),
            ((("authorization", "Bearer wrong"),), grpc.StatusCode.UNAUTHENTICATED),
            ((), grpc.StatusCode.UNAUTHENTICATED),
        ]:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await llm.Generate(request, metadata=metadata)
            assert refused.value.code() == code
    await door.stop(0)
    (job,) = house.stub.jobs
    assert job.constraints.priority == Priority.STANDARD


async def test_a_key_is_in_no_log(house: House) -> None:
    admin = await house.key("ops", scopes=("admin",))
    sink = io.StringIO()
    with contextlib.redirect_stderr(sink):
        logs.setup("json")
    async with house.door() as client:
        for secret in (admin, admin[:-1] + "?"):
            await ask(client, secret)
            await ask(client, secret, messages=[{"role": "user", "content": "bug"}])
        made = await client.post("/api/v1/admin/keys", json={"tenant": "shop"}, headers=bearer(admin))
        await client.delete(f"/api/v1/admin/keys/{made.json()['id']}", headers=bearer(admin))
    logs.LOGGER.handlers.clear()
    written = sink.getvalue()
    assert '"event":"key_created"' in written
    assert '"event":"key_revoked"' in written
    assert f'"key":"{made.json()["id"]}"' in written
    for secret in (admin, made.json()["secret"]):
        assert secret[10:] not in written


async def test_metrics_need_a_scope_where_keys_are_needed(house: House) -> None:
    from starlette.routing import Route

    from serve_app.api import http
    from serve_app.api.server import _metrics

    secrets = {scope: await house.key(scopes=(scope,)) for scope in ("metrics", "admin", "inference")}
    async with (
        listening(http.build(house.service(), [Route("/metrics", _metrics)])) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        codes = {
            scope: (await client.get("/metrics", headers=bearer(key))).status_code for scope, key in secrets.items()
        }
    assert codes == {"metrics": 200, "admin": 200, "inference": 403}
