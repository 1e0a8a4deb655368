"""`megacity keys`."""

import json
from pathlib import Path
from typing import Any

import pytest

from serve_app.cli import main


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEGACITY_HOME", str(tmp_path))


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["keys", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_whole_life(capsys: pytest.CaptureFixture[str]) -> None:
    made = told(
        capsys,
        *("create", "--tenant", "acme", "--name", "ci", "--tier", "batch", "--zone", "UnivPrepAI", "--scope", "chat"),
        *("--rpm", "60", "--tpm", "1000", "--budget-usd", "2.5", "--days", "7"),
    )
    assert made["secret"].startswith("sk-mc-")
    assert (made["tier"], made["zones"], made["scopes"]) == ("batch", ["UnivPrepAI"], ["chat"])
    assert made["expires"] - made["created"] in (7 * 86_400 - 1, 7 * 86_400)
    rotated = told(capsys, "rotate", made["id"], "--overlap", "60")
    assert rotated["secret"] != made["secret"]
    assert told(capsys, "revoke", rotated["id"])["in_force"] is False
    listed = told(capsys, "list")["data"]
    assert {key["id"]: key["in_force"] for key in listed} == {made["id"]: True, rotated["id"]: False}
    assert all("secret" not in key for key in listed)


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "list"]) == 0
    assert "no keys yet" in capsys.readouterr().out
    assert main(["keys", "create", "--tenant", "acme"]) == 0
    assert "shown this once" in capsys.readouterr().out
    assert main(["keys", "list"]) == 0
    assert "acme" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "--tenant", "a b"), "'tenant'"),
        (("create", "--tenant", "a", "--zone", "nowhere"), "UnivPrepAI"),
        (("create", "--tenant", "a", "--rpm", "0"), "'requests_per_minute'"),
        (("revoke", "key_none"), "no such key"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str) -> None:
    assert main(["keys", *arguments]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
