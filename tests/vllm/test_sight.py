"""A vision-language model on vLLM: pictures and videos as bytes, decoded by us, and what is refused."""

import base64
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio
from PIL import Image

from serve_app.errors import BadRequest
from serve_app.types import Chat, Done, Job, Kind, Media, Message, Sampling
from tests.deployments.subjects import collect
from tests.media.making import video
from tests.vllm.conftest import Running, started, text_of
from tests.vllm.sight import CONTEXT, MERGED, PATCH, seeing_model
from tests.vllm.test_service import running_service

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]

PROFILE = Path(__file__).parent / "eyes.yaml"

TOKEN = PATCH * MERGED
"""Pixels of a side that make one token."""
Painter = Callable[..., Media]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return seeing_model(tmp_path_factory.mktemp("seeing"))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def seeing(model: Path) -> AsyncIterator[Running]:
    running = await started(model=str(model), images_per_prompt=2, videos_per_prompt=1, video_frames=4)
    yield running
    await running.engine.close()


def media(path: Path, media_type: str) -> Media:
    content = path.read_bytes()
    return Media(str(path), hashlib.sha256(content).hexdigest(), len(content), media_type)


@pytest.fixture
def picture(tmp_path: Path) -> Painter:
    def paint(colour: str, side: int = 4 * TOKEN) -> Media:
        path = tmp_path / f"{colour}-{side}.png"
        Image.new("RGB", (side, side), colour).save(path)
        return media(path, "image/png")

    return paint


def about(*shown: Media, text: str = "?") -> Job:
    turn = Message("user", text, media=shown)
    return Job("job", Kind.CHAT, Chat((turn,), Sampling(temperature=0, max_tokens=12)))


async def said(running: Running, *shown: Media) -> str:
    return text_of(await collect(running.engine, about(*shown)))


async def read(running: Running, *shown: Media) -> int:
    """Tokens of the prompt, as they are counted."""
    done = (await collect(running.engine, about(*shown)))[-1]
    assert isinstance(done, Done)
    return done.usage.prompt_tokens


@pytest.mark.asyncio(loop_scope="session")
async def test_an_answer_depends_on_the_picture(seeing: Running, picture: Painter) -> None:
    red, blue = picture("red"), picture("blue")
    first = await said(seeing, red)
    assert await said(seeing, red) == first
    assert await said(seeing, blue) != first
    assert await said(seeing) != first


@pytest.mark.asyncio(loop_scope="session")
async def test_two_pictures_are_seen_in_their_order(seeing: Running, picture: Painter) -> None:
    red, blue = picture("red"), picture("blue")
    assert await said(seeing, red, blue) != await said(seeing, blue, red)


@pytest.mark.asyncio(loop_scope="session")
async def test_a_picture_is_counted_by_its_tokens(seeing: Running, picture: Painter) -> None:
    bare = await read(seeing)
    small, large = await read(seeing, picture("red", 4 * TOKEN)), await read(seeing, picture("red", 6 * TOKEN))
    assert large - small == 6 * 6 - 4 * 4
    assert small > bare + 4 * 4


@pytest.mark.asyncio(loop_scope="session")
async def test_a_video_is_seen_two_pictures_a_second(seeing: Running, tmp_path: Path) -> None:
    short, long = (media(video(tmp_path / f"{n}.mp4", count=n, size=(112, 112)), "video/mp4") for n in (25, 55))
    assert await said(seeing, short) != await said(seeing, long)
    assert await read(seeing, long) - await read(seeing, short) == 4 * 4  # two pictures more share one row of tokens


@pytest.mark.asyncio(loop_scope="session")
async def test_too_many_pictures_are_refused(seeing: Running, picture: Painter) -> None:
    with pytest.raises(BadRequest, match="at most 2 image"):
        await collect(seeing.engine, about(*[picture("red")] * 3))


@pytest.mark.asyncio(loop_scope="session")
async def test_a_broken_picture_is_refused_and_the_next_one_seen(
    seeing: Running, picture: Painter, tmp_path: Path
) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 100)
    with pytest.raises(BadRequest):
        await collect(seeing.engine, about(media(path, "image/png")))
    assert await said(seeing, picture("red"))


@pytest.mark.asyncio(loop_scope="session")
async def test_a_picture_beyond_the_context_is_refused(seeing: Running, picture: Painter) -> None:
    text = "1 " * (CONTEXT // 2 - 20)
    assert await collect(seeing.engine, about(text=text)), "the text alone has room"
    with pytest.raises(BadRequest, match="fewer pictures"):
        await collect(seeing.engine, about(picture("red", 8 * TOKEN), text=text))
    assert await said(seeing, picture("red"))


@pytest.fixture(scope="module")
def client(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    folder = tmp_path_factory.mktemp("eyes")
    profile = folder / "eyes.yaml"
    profile.write_text(PROFILE.read_text("utf-8").replace("SEEING", str(model)), "utf-8")
    with running_service(profile, folder) as service:
        yield openai.OpenAI(base_url=f"{service.url}/v1", api_key="sk-local-standard", max_retries=0, timeout=60)


def ask(client: openai.OpenAI, kind: str, url: str) -> Any:
    parts = [{"type": kind, kind: {"url": url}}, {"type": "text", "text": "?"}]
    messages: Any = [{"role": "user", "content": parts}]
    return client.chat.completions.create(model="nano-eyes", messages=messages, temperature=0, max_tokens=12)


def data_url(shown: Media) -> str:
    return f"data:{shown.media_type};base64,{base64.b64encode(Path(shown.path).read_bytes()).decode()}"


def test_a_client_of_openai_shows_a_picture_and_a_video(
    client: openai.OpenAI, picture: Painter, tmp_path: Path
) -> None:
    red, blue = (ask(client, "image_url", data_url(picture(colour))) for colour in ("red", "blue"))
    assert red.choices[0].message.content != blue.choices[0].message.content
    film = media(video(tmp_path / "a.mp4", size=(112, 112)), "video/mp4")
    assert ask(client, "video_url", data_url(film)).usage.prompt_tokens > 4 * 4


def test_an_address_is_never_fetched(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        ask(client, "image_url", "http://127.0.0.1:1/cat.png")


def test_what_is_no_picture_is_refused_with_what_to_send(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError, match="Send a JPEG, PNG") as refusal:
        ask(client, "image_url", "data:image/png;base64,AAAA")
    assert refusal.value.status_code == 415
