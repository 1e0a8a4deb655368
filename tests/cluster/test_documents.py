"""The documents are executed: what README and CONTRIBUTING show is what happens."""

import re
import subprocess
import sys
import types
from pathlib import Path

import httpx
import pytest
import yaml

from serve_app.types import Chat, Delta, Done, Job, Kind, Message
from tests.cluster.conftest import Service, Start

PROJECT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(document: str, *languages: str) -> list[tuple[str, str]]:
    found = BLOCK.findall((PROJECT / document).read_text())
    return [(language, text) for language, text in found if language in languages]


README = blocks("README.md", "bash", "python")


@pytest.mark.parametrize(("language", "text"), README, ids=[text.split("\n", 1)[0][:50] for _, text in README])
def test_readme_block_runs(embedded: Service, language: str, text: str) -> None:
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{embedded.port}")
    text = text.replace("127.0.0.1:9000", f"127.0.0.1:{embedded.grpc_port}")
    text = re.sub(r"^megacity (status|demo)$", rf"megacity \1 --url {embedded.url}", text, flags=re.MULTILINE)
    command = ["bash", "-euo", "pipefail", "-c", text] if language == "bash" else [sys.executable, "-c", text]
    environment = embedded.environment()
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert '"error"' not in done.stdout


def test_readme_names_what_make_prints() -> None:
    shown = (PROJECT / "README.md").read_text()
    launcher = (PROJECT / "serve_app" / "launcher.py").read_text()
    for words in ("starting a local Ray cluster", "OpenAI API", "Docs", "gRPC", "Try          megacity demo"):
        assert words in shown
        assert words in launcher


def test_every_linked_file_is_there() -> None:
    for document in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for link in re.findall(r"\]\(([^)#]+)", (PROJECT / document).read_text()):
            assert link.startswith("http") or (PROJECT / link).exists(), f"{document}: {link}"


async def test_the_engine_of_contributing_is_an_engine() -> None:
    module = types.ModuleType("shout")
    exec(blocks("CONTRIBUTING.md", "python")[0][1], module.__dict__)
    shout = module.Shout(module.Shout.Options(marks=3))
    job = Job("1", Kind.CHAT, Chat((Message("user", "well done"),)))
    events = [event async for event in shout.run(job)]
    assert "".join(e.text for e in events if isinstance(e, Delta)) == "WELL DONE !!!"
    assert isinstance(events[-1], Done)


def test_one_file_and_one_entry_are_enough(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of CONTRIBUTING, done by the letter, answers through a real service."""
    (tmp_path / "shout_engine.py").write_text(blocks("CONTRIBUTING.md", "python")[0][1])
    entry = yaml.safe_load(blocks("CONTRIBUTING.md", "yaml")[0][1])
    entry["shout"]["engine"] = "shout_engine:Shout"
    profile = yaml.safe_load((PROJECT / "tests" / "cluster" / "scripted.yaml").read_text())
    args = profile["applications"][0]["args"]
    args["engines"] = {"quick": args["engines"]["quick"], **entry}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(profile))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    service = start(tmp_path / "mine.yaml")
    body = {"model": "shout-1", "messages": [{"role": "user", "content": "hello there"}]}
    answer = httpx.post(f"{service.url}/v1/chat/completions", json=body, timeout=30)
    assert answer.json()["choices"][0]["message"]["content"] == "HELLO THERE !!!"
    assert service.stop() == 0
