"""Writes a checkpoint as a CTranslate2 model that faster-whisper loads, and the phone head beside it.

python -m tools.nano_whisper.export --run FOLDER --out models/nano-whisper
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ctranslate2.specs import WhisperSpec
from tokenizers import Tokenizer
from torch import Tensor, nn

from deployments.sounds.phones import PHONES
from tools.nano_whisper import tokenizer as ids
from tools.nano_whisper.model import Attention, Block, NanoWhisper, Shape, sinusoids
from tools.nano_whisper.train import Vocabulary

PREPROCESSOR = {"chunk_length": 30, "feature_size": 80, "hop_length": 160, "n_fft": 400, "sampling_rate": 16000}


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().contiguous().numpy()


def set_norm(spec: Any, norm: nn.LayerNorm) -> None:
    spec.gamma, spec.beta = array(norm.weight), array(norm.bias)


def set_linear(spec: Any, *layers: nn.Linear) -> None:
    """Several layers that read the same become one."""
    spec.weight = array(torch.cat([layer.weight for layer in layers]))
    biases = [torch.zeros(layer.out_features) if layer.bias is None else layer.bias for layer in layers]
    spec.bias = array(torch.cat(biases))


def set_self_attention(spec: Any, norm: nn.LayerNorm, attention: Attention) -> None:
    set_norm(spec.layer_norm, norm)
    set_linear(spec.linear[0], attention.query, attention.key, attention.value)
    set_linear(spec.linear[1], attention.out)


def set_block(spec: Any, block: Block, cross: bool) -> None:
    set_self_attention(spec.self_attention, block.self_norm, block.self_attention)
    if cross:
        set_norm(spec.attention.layer_norm, block.cross_norm)
        set_linear(spec.attention.linear[0], block.cross_attention.query)
        set_linear(spec.attention.linear[1], block.cross_attention.key, block.cross_attention.value)
        set_linear(spec.attention.linear[2], block.cross_attention.out)
    set_norm(spec.ffn.layer_norm, block.mlp_norm)
    set_linear(spec.ffn.linear_0, block.up)
    set_linear(spec.ffn.linear_1, block.down)


def all_tokens(model: NanoWhisper, words: Vocabulary) -> Tensor:
    """[51865, width]. Those that were never trained get the row that stood for them all: the softmax stays the same."""
    learnt = model.tokens
    table = learnt[words.unused].expand(ids.SIZE, -1).clone()
    table[torch.tensor(words.large)] = learnt[: words.unused]
    table[ids.TIMESTAMP :] = learnt[words.first_moment :]
    return table


def spec_of(model: NanoWhisper, words: Vocabulary, names: list[str]) -> WhisperSpec:
    shape = model.shape
    spec = WhisperSpec(shape.encoder, shape.heads, shape.decoder, shape.heads)
    for part, layer in ((spec.encoder.conv1, model.conv1), (spec.encoder.conv2, model.conv2)):
        part.weight, part.bias = array(layer.weight), array(layer.bias)
    spec.encoder.position_encodings.encodings = array(sinusoids(model.positions.shape[0], shape.width))
    spec.decoder.position_encodings.encodings = array(model.text_positions)
    for target, block in zip(spec.encoder.layer, model.encoder, strict=True):
        set_block(target, block, cross=False)
    for target, block in zip(spec.decoder.layer, model.decoder, strict=True):
        set_block(target, block, cross=True)
    set_norm(spec.encoder.layer_norm, model.encoder_norm)
    set_norm(spec.decoder.layer_norm, model.decoder_norm)
    spec.decoder.embeddings.weight = array(all_tokens(model, words))
    spec.decoder.projection.weight = spec.decoder.embeddings.weight
    spec.register_vocabulary(names)
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = [ids.END]
    spec.config.lang_ids = sorted(ids.LANGUAGE.values())
    spec.config.alignment_heads = [(shape.decoder - 1, 0)]  # the one that is told where to look
    return spec


def export(run: Path, out: Path) -> None:
    tokenizer = Tokenizer.from_file(str(run / "tokenizer.json"))
    words = Vocabulary(tokenizer)
    model = NanoWhisper(Shape(), words.first_moment, ids.TIMESTAMPS)
    model.load_state_dict(torch.load(run / "checkpoint.pt", weights_only=True)["model"])
    out.mkdir(parents=True, exist_ok=True)
    spec = spec_of(model, words, ids.vocabulary(tokenizer))
    spec.validate()
    spec.optimize(quantization="int8")
    spec.save(str(out))
    shutil.copy(run / "tokenizer.json", out)
    (out / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR) + "\n")
    head = {
        "weight": array(model.phones.weight).astype(np.float16),
        "bias": array(model.phones.bias).astype(np.float16),
    }
    np.savez(out / "phones.npz", names=np.array(PHONES), **head)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    export(arguments.run, arguments.out)


if __name__ == "__main__":
    main()
