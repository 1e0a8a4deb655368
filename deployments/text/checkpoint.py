"""Where the files of a converted model lie."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from serve_app.errors import ConfigError

PROJECT = Path(__file__).parents[2]
REMEDY = "convert a checkpoint with `python -m tools.convert HF_FOLDER OUT`, then set `path` to OUT"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A CTranslate2 model with its tokenizer and what its authors wrote about prompts, sampling and length."""

    weights: Path
    tokenizer: Path
    vocabulary: list[str]
    template: str | None = None
    special_tokens: dict[str, str] = field(default_factory=dict)
    generation: dict[str, Any] = field(default_factory=dict)
    context_tokens: int | None = None

    @classmethod
    def open(cls, path: str) -> Self:
        """Read a folder that holds `model.bin` itself, or in a `ct2-…` folder inside. Raises ConfigError."""
        root = _folder(path)
        weights = _weights(root)
        folders = [weights, root]
        tokenizer = next((f / "tokenizer.json" for f in folders if (f / "tokenizer.json").is_file()), None)
        if tokenizer is None:
            raise ConfigError(f"path: there is no tokenizer.json in '{path}'; {REMEDY}")
        settings = _merged(folders, "tokenizer_config.json")
        config = _merged(folders, "config.json")
        return cls(
            weights=weights,
            tokenizer=tokenizer,
            vocabulary=_vocabulary(weights),
            template=_template(folders, settings),
            special_tokens=_special_tokens(config | settings),
            generation=_merged(folders, "generation_config.json"),
            context_tokens=config.get("max_position_embeddings"),
        )

    @property
    def end_tokens(self) -> list[int]:
        """Ids of the tokens that end an answer."""
        listed = self.generation.get("eos_token_id")
        ids = {listed} if isinstance(listed, int) else set(listed or ())
        eos = self.special_tokens.get("eos_token")
        if eos in self.vocabulary:
            ids.add(self.vocabulary.index(eos))
        return sorted(ids)


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint as its authors give it away: config.json, tokenizer.json and safetensors in one folder."""

    folder: Path
    tokenizer: Path
    config: dict[str, Any]
    template: str | None = None
    special_tokens: dict[str, str] = field(default_factory=dict)
    generation: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Raises ConfigError."""
        for name in ("config.json", "tokenizer.json"):
            if not (folder / name).is_file():
                raise ConfigError(f"model: there is no {name} in '{folder.name}'; copy the whole checkpoint")
        config, settings = _merged([folder], "config.json"), _merged([folder], "tokenizer_config.json")
        return cls(
            folder=folder,
            tokenizer=folder / "tokenizer.json",
            config=config | config.get("text_config", {}),
            template=_template([folder], settings),
            special_tokens=_special_tokens(config | settings),
            generation=_merged([folder], "generation_config.json"),
        )


def found(path: str) -> Path | None:
    """The folder that a profile means: a relative path counts from the current directory, then from the project."""
    return next((p for p in (Path(path).expanduser(), PROJECT / path) if p.is_dir()), None)


def _folder(path: str) -> Path:
    if folder := found(path):
        return folder
    raise ConfigError(f"path: there is no folder '{path}'; {REMEDY}")


def _weights(root: Path) -> Path:
    for candidate in (root, *sorted(root.glob("ct2-*"))):
        if (candidate / "model.bin").is_file():
            return candidate
    raise ConfigError(f"path: '{root}' holds no CTranslate2 model (model.bin); {REMEDY}")


def _merged(folders: list[Path], name: str) -> dict[str, Any]:
    """The JSON objects of that name as one; the folder with the weights wins."""
    merged: dict[str, Any] = {}
    for folder in reversed(folders):
        if (folder / name).is_file():
            merged |= json.loads((folder / name).read_text("utf-8"))
    return merged


def _vocabulary(weights: Path) -> list[str]:
    tokens: list[str] = json.loads((weights / "vocabulary.json").read_text("utf-8"))
    return tokens


def _template(folders: list[Path], settings: dict[str, Any]) -> str | None:
    """Newer checkpoints keep the chat template in a file of its own, older ones may name several."""
    for folder in folders:
        if (folder / "chat_template.jinja").is_file():
            return (folder / "chat_template.jinja").read_text("utf-8")
    template = settings.get("chat_template")
    if isinstance(template, list):
        return next((str(t["template"]) for t in template if t["name"] == "default"), None)
    return template


def _special_tokens(settings: dict[str, Any]) -> dict[str, str]:
    """`{"eos_token": "<|end|>", …}`; a token may be written as text or as an object with `content`."""
    named = {key: value for key, value in settings.items() if key.endswith("_token") and value}
    tokens = {key: value["content"] if isinstance(value, dict) else value for key, value in named.items()}
    return {key: value for key, value in tokens.items() if isinstance(value, str)}
