"""What can be checked without torch; the conversion itself is CTranslate2's."""

import json
from pathlib import Path
from typing import Any

import pytest

from tools.convert import Refused, check, check_out, complete


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    source = tmp_path / "checkpoint"
    source.mkdir()
    write(source / "config.json", {"eos_token_id": [1, 2], "max_position_embeddings": 128})
    write(source / "tokenizer_config.json", {"eos_token": "</s>"})
    write(source / "tokenizer.json", {})
    (source / "model.safetensors").touch()
    return source


def write(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content), "utf-8")


def test_a_checkpoint_in_safetensors_is_accepted(checkpoint: Path, tmp_path: Path) -> None:
    check(checkpoint)
    check_out(checkpoint, tmp_path / "out", force=False)


def test_pickles_are_refused(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(Refused, match="safetensors"):
        check(checkpoint)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_of_its_own_is_refused(checkpoint: Path, name: str) -> None:
    write(checkpoint / name, {"auto_map": {"AutoModel": "modeling.Evil"}})
    with pytest.raises(Refused, match="auto_map"):
        check(checkpoint)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_what_is_missing_is_named(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    with pytest.raises(Refused, match=name):
        check(checkpoint)


def test_nothing_is_replaced_by_accident(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="itself"):
        check_out(checkpoint, tmp_path, force=True)
    (tmp_path / "out").mkdir()
    with pytest.raises(Refused, match="--force"):
        check_out(checkpoint, tmp_path / "out", force=False)
    check_out(checkpoint, tmp_path / "out", force=True)


def test_what_the_converter_leaves_out_is_filled_in(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    write(out / "config.json", {"bos_token": None, "eos_token": None, "unk_token": None})
    write(out / "vocabulary.json", ["a", "</s>", "<|end|>"])
    complete(checkpoint, out)
    settings = json.loads((out / "config.json").read_text("utf-8"))
    assert settings == {
        "bos_token": "</s>",
        "eos_token": "</s>",
        "unk_token": "",
        "max_position_embeddings": 128,
    }
    assert (out / "tokenizer.json").is_file()


def test_the_tokenizer_is_not_copied_beside_itself(checkpoint: Path) -> None:
    out = checkpoint / "ct2-int8"
    out.mkdir()
    write(out / "config.json", {"eos_token": "</s>"})
    write(out / "vocabulary.json", ["a", "</s>"])
    complete(checkpoint, out)
    assert not (out / "tokenizer.json").exists()
