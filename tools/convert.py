"""Convert a checkpoint for the language engine: `python -m tools.convert HF_FOLDER OUT [--quantization int8]`.

HF_FOLDER is a local Qwen2, Llama or similar checkpoint in safetensors. OUT gets the CTranslate2 model and everything
that the engine reads beside it, so that a profile needs no more than `path: OUT`.
"""

import argparse
import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

COMPANIONS = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")
QUANTIZATIONS = ("int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16", "float16", "bfloat16", "float32")


class Refused(Exception):
    """The checkpoint cannot be converted; the message says why and what to do."""


def convert(source: Path, out: Path, quantization: str, force: bool = False) -> None:
    """Write the converted model to `out`. Raises Refused."""
    check(source)
    check_out(source, out, force)
    _converter(source).convert(str(out), quantization=quantization, force=force)
    complete(source, out)


def check(source: Path) -> None:
    """Nothing in a checkpoint may be able to run code: no pickles, no Python modules of its own."""
    if not (source / "config.json").is_file():
        raise Refused(f"{source} is no checkpoint: it has no config.json. Give a local folder.")
    if not (source / "tokenizer.json").is_file():
        raise Refused(f"{source} has no tokenizer.json; save it with the fast tokenizer first.")
    if not any(source.glob("*.safetensors")):
        raise Refused(f"{source} has no safetensors. Pickled weights can run code and are not read; save it anew.")
    for name in ("config.json", "tokenizer_config.json"):
        if "auto_map" in _json(source / name):
            raise Refused(f"{name} asks for code from the checkpoint (auto_map), which is never run.")


def check_out(source: Path, out: Path, force: bool) -> None:
    if source.resolve().is_relative_to(out.resolve()):
        raise Refused("OUT would replace the checkpoint itself; choose another folder.")
    if out.exists() and not force:
        raise Refused(f"{out} is already there; add --force to replace it.")


def complete(source: Path, out: Path) -> None:
    """Fill in what the converter leaves out: nulls that CTranslate2 cannot load, the context length, the tokenizer."""
    settings, vocabulary = _json(out / "config.json"), json.loads((out / "vocabulary.json").read_text("utf-8"))
    settings["eos_token"] = settings.get("eos_token") or vocabulary[_end_token(source)]
    # A model without these tokens works as well: the engine sends prompts that are complete and in the vocabulary.
    settings["bos_token"] = settings.get("bos_token") or settings["eos_token"]
    settings["unk_token"] = settings.get("unk_token") or ""
    settings["max_position_embeddings"] = _json(source / "config.json").get("max_position_embeddings")
    (out / "config.json").write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", "utf-8")
    if not out.resolve().is_relative_to(source.resolve()):
        for name in COMPANIONS:
            if (source / name).is_file():
                shutil.copy(source / name, out / name)


def _end_token(source: Path) -> int:
    for name in ("generation_config.json", "config.json"):
        listed = _json(source / name).get("eos_token_id")
        if isinstance(listed, list) and listed:
            listed = listed[0]
        if isinstance(listed, int):
            return listed
    raise Refused("The checkpoint names no eos token; set eos_token_id in its generation_config.json.")


def _converter(source: Path) -> Any:
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise Refused(
            f"Conversion needs more than serving does ({' and '.join(missing)}): "
            "pip install -r tools/requirements-train.txt"
        )
    from ctranslate2.converters import TransformersConverter

    class SafeConverter(TransformersConverter):  # type: ignore[misc]
        def load_model(self, model_class: Any, folder: str, **options: Any) -> Any:
            return model_class.from_pretrained(folder, use_safetensors=True, local_files_only=True, **options)

    return SafeConverter(str(source), trust_remote_code=False)


def _json(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text("utf-8"))) if file.is_file() else {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="HF_FOLDER", type=Path)
    parser.add_argument("out", metavar="OUT", type=Path)
    parser.add_argument("--quantization", default="int8", choices=QUANTIZATIONS)
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
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
