"""Convert a text encoder for the embedding engine: `python -m tools.convert_encoder HF_FOLDER OUT`.

HF_FOLDER is a local BERT or XLM-RoBERTa checkpoint in safetensors, such as all-MiniLM-L6-v2, e5-large-v2 or
multilingual-e5-large. Nothing beyond what serving needs is imported: the weights are read with numpy. OUT gets the
CTranslate2 model and the tokenizer, so that a profile needs no more than `path: OUT`.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2.specs import common_spec, transformer_spec
from ctranslate2.specs.model_spec import LayerSpec

from tools.convert import QUANTIZATIONS, Refused, check, check_out

NUMPY = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "BF16": np.uint16}
ACTIVATIONS = {"gelu": "GELU", "gelu_new": "GELUTanh", "relu": "RELU"}
POSITIONS_BEFORE_FIRST = {"bert": 0, "xlm-roberta": 2}  # rows of the table that XLM-R keeps for its padding token
PREFIXES = ("bert.", "roberta.")

Weights = dict[str, np.ndarray]


def convert(source: Path, out: Path, quantization: str, force: bool = False) -> None:
    """Write the converted model to `out`. Raises Refused."""
    check(source)
    check_out(source, out, force)
    config = json.loads((source / "config.json").read_text("utf-8"))
    spec = encoder_spec(config, read_weights(source))
    tokens = _tokens(source)
    tokens += [f"<extra_id_{n}>" for n in range(config["vocab_size"] - len(tokens))]
    spec.register_vocabulary(tokens)
    spec.config.unk_token = "[UNK]" if "[UNK]" in tokens else "<unk>"
    spec.config.layer_norm_epsilon = config.get("layer_norm_eps", 1e-12)
    spec.validate()
    spec.optimize(quantization=quantization)
    out.mkdir(parents=True, exist_ok=True)
    spec.save(str(out))
    _complete(source, out, config)


def encoder_spec(config: dict[str, Any], weights: Weights) -> transformer_spec.TransformerEncoderModelSpec:
    """The layers of a BERT, without its pooler: sentence encoders average the last hidden states."""
    kind, activation = config.get("model_type"), config.get("hidden_act")
    if kind not in POSITIONS_BEFORE_FIRST or config.get("position_embedding_type", "absolute") != "absolute":
        raise Refused(f"The architecture '{kind}' is not known here; BERT and XLM-RoBERTa are.")
    if activation not in ACTIVATIONS:
        raise Refused(f"The activation '{activation}' is not known here; {', '.join(ACTIVATIONS)} are.")
    encoder = transformer_spec.TransformerEncoderSpec(
        config["num_hidden_layers"],
        config["num_attention_heads"],
        pre_norm=False,
        activation=getattr(common_spec.Activation, ACTIVATIONS[activation]),
        layernorm_embedding=True,
        num_source_embeddings=2,
        embeddings_merge=common_spec.EmbeddingsMerge.ADD,
    )
    encoder.scale_embeddings = False
    first = POSITIONS_BEFORE_FIRST[kind]
    encoder.embeddings[0].weight = weights["embeddings.word_embeddings.weight"]
    encoder.embeddings[1].weight = weights["embeddings.token_type_embeddings.weight"]
    encoder.position_encodings.encodings = weights["embeddings.position_embeddings.weight"][first:]
    _norm(encoder.layernorm_embedding, weights, "embeddings.LayerNorm")
    for number, layer in enumerate(encoder.layer):
        _layer(layer, weights, f"encoder.layer.{number}.")
    return transformer_spec.TransformerEncoderModelSpec(encoder)


def read_weights(source: Path) -> Weights:
    """Every tensor of the folder's safetensors files, as float32 where it is a float."""
    weights: Weights = {}
    for file in sorted(source.glob("*.safetensors")):
        weights |= _read(file)
    return weights


def _read(file: Path) -> Weights:
    """The format is an 8-byte length, a JSON header with types, shapes and offsets, and the bytes."""
    raw = np.memmap(file, mode="r")
    length = int.from_bytes(raw[:8].tobytes(), "little")
    header = json.loads(raw[8 : 8 + length].tobytes())
    header.pop("__metadata__", None)
    body = raw[8 + length :]
    return {_plain(name): _tensor(body, entry) for name, entry in header.items()}


def _tensor(body: np.ndarray, entry: dict[str, Any]) -> np.ndarray:
    start, end = entry["data_offsets"]
    values = body[start:end].view(NUMPY[entry["dtype"]]).reshape(entry["shape"])
    if entry["dtype"] == "BF16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32) if values.dtype.kind == "f" else values


def _plain(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _layer(layer: LayerSpec, weights: Weights, prefix: str) -> None:
    attention = layer.self_attention
    heads = [f"{prefix}attention.self.{name}" for name in ("query", "key", "value")]
    attention.linear[0].weight = np.concatenate([weights[f"{head}.weight"] for head in heads])
    attention.linear[0].bias = np.concatenate([weights[f"{head}.bias"] for head in heads])
    _linear(attention.linear[1], weights, f"{prefix}attention.output.dense")
    _norm(attention.layer_norm, weights, f"{prefix}attention.output.LayerNorm")
    _linear(layer.ffn.linear_0, weights, f"{prefix}intermediate.dense")
    _linear(layer.ffn.linear_1, weights, f"{prefix}output.dense")
    _norm(layer.ffn.layer_norm, weights, f"{prefix}output.LayerNorm")


def _linear(spec: LayerSpec, weights: Weights, name: str) -> None:
    spec.weight, spec.bias = weights[f"{name}.weight"], weights[f"{name}.bias"]


def _norm(spec: LayerSpec, weights: Weights, name: str) -> None:
    spec.gamma, spec.beta = weights[f"{name}.weight"], weights[f"{name}.bias"]


def _tokens(source: Path) -> list[str]:
    from tokenizers import Tokenizer

    vocabulary = Tokenizer.from_file(str(source / "tokenizer.json")).get_vocab(with_added_tokens=True)
    return sorted(vocabulary, key=lambda token: vocabulary[token])


def _complete(source: Path, out: Path, config: dict[str, Any]) -> None:
    """What the engine reads beside the weights: the tokenizer, and how long a text may be."""
    settings = json.loads((out / "config.json").read_text("utf-8"))
    positions = config["max_position_embeddings"] - POSITIONS_BEFORE_FIRST[config["model_type"]]
    settings |= {"max_position_embeddings": positions, "hidden_size": config["hidden_size"]}
    (out / "config.json").write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", "utf-8")
    shutil.copy(source / "tokenizer.json", out / "tokenizer.json")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="HF_FOLDER", type=Path)
    parser.add_argument("out", metavar="OUT", type=Path)
    parser.add_argument("--quantization", default="int8", choices=QUANTIZATIONS)
    parser.add_argument("--force", action="store_true", help="write into OUT even if it exists")
    args = parser.parse_args()
    try:
        convert(args.source, args.out, args.quantization, args.force)
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 1
    print(f"Converted to {args.out}. In a profile: path: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
