"""Writes a trained run as the artefact: `python -m tools.nano_tutor.export --run /tmp/nano-tutor/run`.

fp16 weights in the published Qwen2 layout, tokenizer with chat template, and the CTranslate2 int8 conversion.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import torch
from ctranslate2.converters import TransformersConverter
from safetensors.torch import save_file

from tools.nano_tutor.model import Shape
from tools.nano_tutor.tokenizer import BOS, BOT, CHAT_TEMPLATE, END, PAD, SPECIALS, UNK, USER

ARTEFACT = Path("models/nano-tutor")


def token_id(token: str) -> int:
    return SPECIALS.index(token)


def special_ids() -> dict[str, int]:
    return {"bos_token_id": token_id(BOS), "eos_token_id": token_id(END), "pad_token_id": token_id(PAD)}


def model_config(shape: Shape) -> dict[str, object]:
    fixed = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
        "use_cache": True,
        "use_sliding_window": False,
        "head_dim": shape.head_dim,
    }
    return {**fixed, **shape.as_dict(), **special_ids()}


def generation_config() -> dict[str, object]:
    return {**special_ids(), "do_sample": False, "max_new_tokens": 240}


def tokenizer_config(shape: Shape) -> dict[str, object]:
    return {
        "tokenizer_class": "Qwen2Tokenizer",
        "model_max_length": shape.max_position_embeddings,
        "bos_token": BOS,
        "eos_token": END,
        "unk_token": UNK,
        "pad_token": PAD,
        "additional_special_tokens": [USER, BOT],
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }


def half_weights(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"model.{name}": value.half().contiguous() for name, value in state.items()}


def write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def write_model(run: Path, target: Path, averaged: bool) -> None:
    saved = torch.load(run / "checkpoint.pt", weights_only=True)
    shape = Shape(**saved["shape"])
    target.mkdir(parents=True, exist_ok=True)
    weights = half_weights(saved["average" if averaged else "model"])
    save_file(weights, str(target / "model.safetensors"), metadata={"format": "pt"})
    write_json(target / "config.json", model_config(shape))
    write_json(target / "generation_config.json", generation_config())
    write_json(target / "tokenizer_config.json", tokenizer_config(shape))
    shutil.copyfile(run / "tokenizer.json", target / "tokenizer.json")


def convert(target: Path) -> None:
    """Int8 conversion; of its files only the three that the engine reads are kept."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "ct2"
        TransformersConverter(str(target)).convert(str(out), quantization="int8")
        kept = target / "ct2-int8"
        kept.mkdir(exist_ok=True)
        for name in ("model.bin", "config.json", "vocabulary.json"):
            shutil.copyfile(out / name, kept / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("/tmp/nano-tutor/run"))
    parser.add_argument("--to", type=Path, default=ARTEFACT)
    parser.add_argument("--last", action="store_true", help="take the last weights instead of their moving average")
    options = parser.parse_args()
    write_model(options.run, options.to, averaged=not options.last)
    convert(options.to)
    size = sum(f.stat().st_size for f in options.to.rglob("*") if f.is_file())
    print(f"{options.to}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
