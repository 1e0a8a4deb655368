"""The embedded profile through every door, with the clients that people use."""

import json
import subprocess
import sys
from pathlib import Path

import grpc
import httpx
import openai
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from serve_app.api.proto import megacity_pb2, megacity_pb2_grpc
from serve_app.client import MegaCity, SyncMegaCity
from serve_app.profile import load_profile
from tests.cluster.conftest import Service

SUMS = [("347 더하기 85는 얼마예요?", "432"), ("What is 347 + 85?", "432"), ("4x + 38 = 110", "18")]


@pytest.fixture
def client(embedded: Service) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{embedded.url}/v1", api_key="sk-local-standard", max_retries=0)


@pytest.mark.parametrize(("question", "answer"), SUMS)
def test_openai_client_gets_the_right_answer(client: openai.OpenAI, question: str, answer: str) -> None:
    reply = client.chat.completions.create(model="auto", messages=[{"role": "user", "content": question}])
    assert answer in (reply.choices[0].message.content or "")
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.completion_tokens > 5


def test_stream_is_the_same_text_in_pieces(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": SUMS[0][0]}]
    whole = client.chat.completions.create(model="nano-tutor", messages=messages)
    chunks = list(
        client.chat.completions.create(
            model="nano-tutor", messages=messages, stream=True, stream_options={"include_usage": True}
        )
    )
    pieces = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len(pieces) >= 2  # the first at once, the rest at the pace of batches
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens


def test_completions_and_models(client: openai.OpenAI) -> None:
    assert "nano-tutor" in {model.id for model in client.models.list()}
    assert client.models.retrieve("nano-tutor").id == "nano-tutor"
    assert client.completions.create(model="nano-tutor", prompt="1 + 2", max_tokens=4).choices[0].finish_reason


def test_headers_say_who_answered_and_why(embedded: Service) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "12 + 30"}], "metadata": {"task": "math_tutor"}}
    response = httpx.post(f"{embedded.url}/v1/chat/completions", json=body, headers={"x-request-id": "mine-1"})
    assert response.headers["x-megacity-model"].startswith("nano-tutor@")
    assert "math_tutor" in response.headers["x-megacity-route"]
    assert response.headers["x-request-id"] == "mine-1"


def test_grpc_answers_streams_and_reflects(embedded: Service) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{embedded.grpc_port}") as channel:
        stub = megacity_pb2_grpc.LLMServiceStub(channel)
        request = megacity_pb2.GenerateRequest(prompt=SUMS[1][0], max_tokens=200)
        whole = stub.Generate(request)
        assert SUMS[1][1] in whole.text
        assert whole.tokens_generated > 5
        assert "".join(part.text for part in stub.GenerateStream(request)) == whole.text
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        assert "megacity.v1.LLMService" in ProtoReflectionDescriptorDatabase(channel).get_services()


async def test_typed_client_over_http(embedded: Service) -> None:
    async with MegaCity(embedded.url) as city:
        answer = await city.chat(SUMS[0][0], task="math_tutor")
        assert SUMS[0][1] in answer.text
        assert answer.usage.completion_tokens > 5
        assert "".join([piece async for piece in city.stream(SUMS[0][0], task="math_tutor")]) == answer.text
        assert (await city.route("hello")).model == "nano-tutor"


SECOND_APP = """
import asyncio, json, sys
import ray
from ray import serve
from serve_app.client import MegaCity

@serve.deployment(ray_actor_options={"num_cpus": 0})
class Homework:
    def __init__(self):
        self.city = MegaCity.from_app()
    async def ask(self, question):
        answer = await self.city.chat(question, task="math_tutor")
        pieces = [piece async for piece in self.city.stream(question, task="math_tutor")]
        decision = await self.city.route(question)
        models = await self.city.models()
        rules = b"Members may borrow seven books at a time. Late books are paid for."
        document = await self.city.add_document(rules, name="rules", collection="homework")
        found = (await self.city.ask("How many books may members borrow?", collection="homework")).text
        await self.city.aclose()
        told = {"models": models, "document": document.id, "found": found}
        return {"text": answer.text, "pieces": "".join(pieces), "route": decision.model, **told}

ray.init(sys.argv[1], namespace="other", log_to_driver=False, configure_logging=False)
handle = serve.run(Homework.bind(), name="homework", route_prefix=None)
print(json.dumps(handle.ask.remote(sys.argv[2]).result(timeout_s=60)))
serve.delete("homework")
"""


def test_second_ray_application_calls_over_a_handle(embedded: Service) -> None:
    running = json.loads((embedded.home / f"service-{embedded.port}.json").read_text())
    environment = {
        **embedded.environment(),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": running["token_path"],
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    command = [sys.executable, "-c", SECOND_APP, running["ray_address"], SUMS[0][0]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.strip().splitlines()[-1])
    assert SUMS[0][1] in told["text"]
    assert told["pieces"] == told["text"]
    assert told["route"] == "nano-tutor"
    assert "nano-tutor" in told["models"]
    assert "seven books" in told["found"]
    with SyncMegaCity(embedded.url) as city:  # the file came over whole, to where the doors find it too
        same = city.add_document(
            text="Members may borrow seven books at a time. Late books are paid for.", collection="homework"
        )
        assert same.id == told["document"]


def test_dashboard_shows_every_engine_by_name(embedded: Service) -> None:
    running = json.loads((embedded.home / f"service-{embedded.port}.json").read_text())
    token = (embedded.home / "ray-token").read_text()
    url = f"{running['dashboard']}/api/serve/applications/"
    assert httpx.get(url).status_code == 401
    details = httpx.get(url, headers={"Authorization": f"Bearer {token}"}).json()
    engines = load_profile("embedded").settings.engines
    assert set(details["applications"]["megacity"]["deployments"]) == {"ingress", *engines}


def test_only_loopback_is_listened_on(embedded: Service) -> None:
    listening: dict[int, set[str]] = {}
    rows = [row for table in ("tcp", "tcp6") for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
    for line in rows:
        _, local, _, state, *_ = line.split()
        if state == "0A":
            listening.setdefault(int(local.split(":")[1], 16), set()).add(local.split(":")[0])
    loopback = {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1, also as an IPv6 socket names it
    assert listening[embedded.port] <= loopback
    assert listening[embedded.grpc_port] <= loopback
