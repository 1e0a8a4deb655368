"""Conversion of a checkpoint that no other test has: XLM-RoBERTa, whose positions begin after its padding token."""

import json
import struct
from pathlib import Path

import ctranslate2
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from tools.convert import Refused
from tools.convert_encoder import POSITIONS_BEFORE_FIRST, convert

WIDTH, INNER, HEADS, POSITIONS = 16, 32, 2, 12
TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "one", "two", "three"]


def checkpoint(folder: Path, kind: str, seed: int = 0, **config: object) -> dict[str, np.ndarray]:
    """A BERT or XLM-RoBERTa of one layer with random weights, in half precision."""
    rng = np.random.default_rng(seed)
    shapes = {
        "embeddings.word_embeddings.weight": (len(TOKENS), WIDTH),
        "embeddings.position_embeddings.weight": (POSITIONS + POSITIONS_BEFORE_FIRST[kind], WIDTH),
        "embeddings.token_type_embeddings.weight": (1 if kind == "xlm-roberta" else 2, WIDTH),
        "encoder.layer.0.intermediate.dense.weight": (INNER, WIDTH),
        "encoder.layer.0.intermediate.dense.bias": (INNER,),
        "encoder.layer.0.output.dense.weight": (WIDTH, INNER),
        "encoder.layer.0.output.dense.bias": (WIDTH,),
    }
    for name in ("self.query", "self.key", "self.value", "output.dense"):
        shapes[f"encoder.layer.0.attention.{name}.weight"] = (WIDTH, WIDTH)
        shapes[f"encoder.layer.0.attention.{name}.bias"] = (WIDTH,)
    for name in ("embeddings", "encoder.layer.0.attention.output", "encoder.layer.0.output"):
        shapes[f"{name}.LayerNorm.weight"] = shapes[f"{name}.LayerNorm.bias"] = (WIDTH,)
    weights = {name: rng.normal(0, 0.5, shape).astype(np.float16) for name, shape in shapes.items()}
    folder.mkdir()
    _safetensors(folder / "model.safetensors", {f"roberta.{name}": value for name, value in weights.items()})
    described = {
        "model_type": kind,
        "hidden_act": "gelu",
        "num_hidden_layers": 1,
        "num_attention_heads": HEADS,
        "hidden_size": WIDTH,
        "max_position_embeddings": POSITIONS + POSITIONS_BEFORE_FIRST[kind],
        "vocab_size": len(TOKENS),
        "layer_norm_eps": 1e-5,
    }
    (folder / "config.json").write_text(json.dumps(described | config))
    tokenizer = Tokenizer(models.WordLevel({token: at for at, token in enumerate(TOKENS)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return {name: value.astype(np.float64) for name, value in weights.items()}


def _safetensors(file: Path, weights: dict[str, np.ndarray]) -> None:
    header, at = {}, 0
    for name, value in weights.items():
        header[name] = {"dtype": "F16", "shape": value.shape, "data_offsets": [at, at + value.nbytes]}
        at += value.nbytes
    raw = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(raw)) + raw + b"".join(value.tobytes() for value in weights.values()))


def forward(weights: dict[str, np.ndarray], ids: list[int], first: int) -> np.ndarray:
    """The layer as its paper describes it."""

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * weights[f"{name}.LayerNorm.weight"] + weights[f"{name}.LayerNorm.bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def split(x: np.ndarray) -> np.ndarray:
        return x.reshape(len(ids), HEADS, -1).transpose(1, 0, 2)

    from math import erf

    x = weights["embeddings.word_embeddings.weight"][ids] + weights["embeddings.token_type_embeddings.weight"][0]
    x = norm(x + weights["embeddings.position_embeddings.weight"][first : first + len(ids)], "embeddings")
    layer = "encoder.layer.0"
    q, k, v = (split(linear(x, f"{layer}.attention.self.{name}")) for name in ("query", "key", "value"))
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(WIDTH / HEADS)
    attention = np.exp(scores - scores.max(-1, keepdims=True))
    attention /= attention.sum(-1, keepdims=True)
    joined = (attention @ v).transpose(1, 0, 2).reshape(len(ids), WIDTH)
    name = f"{layer}.attention.output"
    x = norm(x + linear(joined, f"{name}.dense"), name)
    inner = linear(x, f"{layer}.intermediate.dense")
    inner = inner * 0.5 * (1 + np.vectorize(erf)(inner / np.sqrt(2)))
    return norm(x + linear(inner, f"{layer}.output.dense"), f"{layer}.output")


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
def test_the_converted_model_computes_what_the_original_does(tmp_path: Path, kind: str) -> None:
    weights = checkpoint(tmp_path / "original", kind)
    convert(tmp_path / "original", tmp_path / "out", "float32")
    encoder = ctranslate2.Encoder(str(tmp_path / "out"))
    ids = [0, 4, 6, 5, 2]
    hidden = np.array(encoder.forward_batch([ids]).last_hidden_state)[0]
    assert np.allclose(hidden, forward(weights, ids, POSITIONS_BEFORE_FIRST[kind]), atol=1e-4)
    settings = json.loads((tmp_path / "out" / "config.json").read_text())
    assert settings["max_position_embeddings"] == POSITIONS


@pytest.mark.parametrize(
    "config", [{"model_type": "t5"}, {"hidden_act": "swish"}, {"auto_map": {"AutoModel": "evil.Model"}}]
)
def test_what_cannot_be_converted_is_refused(tmp_path: Path, config: dict[str, object]) -> None:
    checkpoint(tmp_path / "original", "bert", **config)
    with pytest.raises(Refused):
        convert(tmp_path / "original", tmp_path / "out", "float32")
