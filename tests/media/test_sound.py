from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest

from deployments import media
from deployments.media import Limits
from serve_app.errors import BadRequest, MegaCityError, TooLarge, WrongMedia
from serve_app.types import Media
from tests.media import making
from tests.media.watching import watched

Here = Callable[[Path], Media]
FORMATS = [
    ("pcm_s16le", "wav", "stereo", 48_000),
    ("pcm_u8", "wav", "mono", 8_000),
    ("pcm_f32le", "wav", "stereo", 44_100),
    ("libmp3lame", "mp3", "stereo", 44_100),
    ("aac", "mp4", "stereo", 44_100),
    ("aac", "adts", "mono", 22_050),
    ("flac", "flac", "stereo", 96_000),
    ("flac", "flac", "5.1", 48_000),
    ("libopus", "ogg", "stereo", 48_000),
    ("libopus", "webm", "mono", 48_000),
]


@pytest.mark.parametrize(("codec", "format", "layout", "rate"), FORMATS)
async def test_a_tone_is_the_same_tone_in_every_format(
    tmp_path: Path, here: Here, codec: str, format: str, layout: str, rate: int
) -> None:
    pcm = await media.pcm(here(making.sound(tmp_path / "x", codec, format, 2.0, rate, layout)))
    assert pcm.dtype == np.float32
    assert len(pcm) == pytest.approx(32_000, abs=2_000)
    assert 0.3 < np.abs(pcm).max() < 0.8
    spectrum = np.abs(np.fft.rfft(pcm[8_000:24_000]))
    assert int(np.argmax(spectrum)) == making.TONE_HZ


async def test_a_wav_that_was_sent_while_it_was_made_is_whole(tmp_path: Path, here: Here) -> None:
    """As this service streams them: the sizes in the header are unknown."""
    pcm = (np.sin(np.arange(32_000) * 0.3) * 0.5).astype(np.float32)
    path = tmp_path / "streamed.wav"
    path.write_bytes(b"".join([piece async for piece in media.encoded(_one(pcm), 16_000, "wav")]))
    assert path.read_bytes()[4:8] == b"\xff" * 4
    assert len(await media.pcm(here(path))) == len(pcm)


async def _one(pcm: np.ndarray) -> AsyncIterator[np.ndarray]:
    yield pcm


async def test_blocks_are_the_whole(tmp_path: Path, here: Here) -> None:
    file = here(making.sound(tmp_path / "x", "pcm_s16le", "wav", 70.0, 8_000, "mono"))
    blocks = [block async for block in media.pcm_blocks(file)]
    assert [len(block) for block in blocks] == [480_000, 480_000, 160_000]
    assert np.array_equal(np.concatenate(blocks), await media.pcm(file))


async def test_the_sound_of_a_video_is_found_and_its_cover_is_not_a_video(tmp_path: Path, here: Here) -> None:
    mute = here(making.video(tmp_path / "mute.mp4", 5))
    with pytest.raises(BadRequest, match="no sound"):
        await media.pcm(mute)
    audio = here(making.sound(tmp_path / "x.m4a", "aac", "mp4"))
    with pytest.raises(BadRequest, match="no moving picture"):
        await anext(media.frames(audio))


def hls(path: Path) -> Path:
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    return path


def text(path: Path) -> Path:
    path.write_text("ffconcat version 1.0\nfile /etc/passwd\n")
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


def noise(path: Path, beginning: bytes) -> Path:
    path.write_bytes(beginning + np.random.default_rng(1).bytes(50_000))
    return path


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (empty, BadRequest, "empty"),
        (hls, WrongMedia, "not taken"),
        (text, WrongMedia, "not taken"),
        (lambda path: making.picture(path, "mjpeg", "image2pipe"), WrongMedia, "is a picture"),
        (lambda path: making.picture(path, "png", "image2pipe"), WrongMedia, "is a picture"),
        (lambda path: making.sound(path, "ac3", "matroska"), WrongMedia, "coded in a way"),
        (lambda path: noise(path, b"RIFF\xff\xff\xff\xffWAVE"), BadRequest, "damaged"),
        (lambda path: noise(path, b"fLaC"), BadRequest, "damaged"),
        (lambda path: noise(path, b"OggS"), BadRequest, "damaged"),
        (lambda path: noise(path, b"\x1aE\xdf\xa3"), BadRequest, "damaged"),
        (lambda path: noise(path, b"\0\0\0\x20ftypM4A "), BadRequest, "damaged"),
        (lambda path: noise(path, b"ID3\x04"), BadRequest, "damaged"),
        (lambda path: noise(path, b"\1\2\3\4"), WrongMedia, "not taken"),
    ],
)
async def test_what_is_no_sound_is_refused_in_a_moment(
    tmp_path: Path, here: Here, make: Callable[[Path], Path], error: type[MegaCityError], says: str
) -> None:
    file = here(make(tmp_path / "speech.wav"))
    with watched() as seen, pytest.raises(error, match=says):
        await media.pcm(file)
    assert seen.cpu_s < 2
    assert seen.peak_mb < 512


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return making.silence(tmp_path_factory.mktemp("silent") / "x.flac", 6 * 3600)


async def test_six_hours_of_silence_cost_little(silent: Path, here: Here) -> None:
    file = here(silent)
    assert file.size < 4 << 20
    with watched() as seen, pytest.raises(TooLarge, match="600 seconds"):
        await media.pcm(file)
    assert seen.cpu_s < 3
    assert seen.peak_mb < 512
    blocks = media.pcm_blocks(file, Limits(seconds=3600))
    for _ in range(119):
        assert not (await anext(blocks)).any()
    with pytest.raises(TooLarge, match="3600 seconds"):
        [block async for block in blocks]


async def test_a_process_that_takes_too_long_is_stopped(silent: Path, here: Here) -> None:
    with pytest.raises(TooLarge, match="too long to decode"):
        async for _ in media.pcm_blocks(here(silent), Limits(seconds=10**6, cpu_s=1)):
            pass


async def test_a_process_that_takes_too_much_is_stopped(tmp_path: Path, here: Here) -> None:
    file = here(making.video(tmp_path / "x.mp4", 10, (1920, 1080)))
    with pytest.raises(TooLarge, match="memory"):
        async for _ in media.frames(file, Limits(memory_mb=128)):
            pass


@pytest.mark.parametrize("format", ["wav", "mp3", "opus", "aac", "flac"])
async def test_what_is_encoded_can_be_decoded(tmp_path: Path, here: Here, format: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(await media.encode(making.tone(1.5, 22_050), 22_050, format))
    pcm = await media.pcm(here(path))
    assert len(pcm) == pytest.approx(24_000, abs=1_500)
    assert int(np.argmax(np.abs(np.fft.rfft(pcm[4_000:20_000])))) == making.TONE_HZ
