"""Quantizes a checkpoint and measures it before and after; run by `megacity quantize`, in the tools' own environment.

`python -m tools.quantize.run MODEL OUT --method gptq --bits 4 --task nano-tutor` prints the report as one JSON line.
"""

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from tools.quantize.recipes import group_size, recipe
from tools.quantize.tasks import Refused, Task, calibration, task

BATCH = 64
COMPANIONS = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")
TARGETS = {8: 0.995, 4: 0.98}
"""Share of the original's accuracy that the plan asks for."""


def main() -> int:
    options = _parser().parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    try:
        report = quantize(options)
    except Refused as refused:
        print(f"megacity: {refused}", file=sys.stderr)
        return 1
    print(json.dumps(report))
    return 0


def quantize(options: argparse.Namespace) -> dict[str, Any]:
    judged = task(options.task, options.items) if options.task else None
    texts = calibration(options.calibration or options.task, options.samples)
    model, tokenizer = _load(options.model)
    group = group_size(model.config, options.group)
    before, right_before = _measure(model, tokenizer, options.model, judged)
    started = time.monotonic()
    _oneshot(model, tokenizer, texts, recipe(options.method, options.bits, group, options.activations))
    seconds = time.monotonic() - started
    _save(model, tokenizer, options.model, options.out)
    after, right_after = _measure(_load(options.out)[0], tokenizer, options.out, judged)
    flips = list(zip(right_before, right_after, strict=True))
    return {
        "model": options.model.name,
        "method": options.method,
        "bits": options.bits,
        "activations": options.activations,
        "group": None if options.activations == 8 else group,
        "samples": len(texts),
        "seconds": round(seconds, 1),
        "task": judged.name if judged else None,
        "items": len(judged.questions) if judged else 0,
        "before": before,
        "after": after,
        "lost": flips.count((True, False)),
        "gained": flips.count((False, True)),
        **_verdict(before, after, options.bits),
    }


def _verdict(before: dict[str, Any], after: dict[str, Any], bits: int) -> dict[str, Any]:
    ratios: dict[str, Any] = {"bytes_ratio": round(after["bytes"] / before["bytes"], 4)}
    if before.get("accuracy"):
        kept = after["accuracy"] / before["accuracy"]
        ratios |= {"accuracy_kept": round(kept, 4), "target": TARGETS[bits], "reached": kept >= TARGETS[bits]}
    return ratios


def _load(folder: Path) -> tuple[Any, Any]:
    """In 32 bits; a quantized one is unpacked, because this machine may have no kernels for it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.quantization_config import CompressedTensorsConfig

    settings: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    packed = getattr(AutoConfig.from_pretrained(folder, **settings), "quantization_config", None)
    unpack = {"quantization_config": CompressedTensorsConfig(dequantize=True)} if packed else {}
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, **unpack, **settings
    )
    return model.eval(), AutoTokenizer.from_pretrained(folder, **settings)


def _oneshot(model: Any, tokenizer: Any, texts: list[str], steps: list[Any]) -> None:
    from datasets import Dataset
    from llmcompressor import oneshot

    longest = min(model.config.max_position_embeddings, 2048)
    rows = [tokenizer(text, add_special_tokens=False, truncation=True, max_length=longest) for text in texts]
    columns = {name: [row[name] for row in rows] for name in ("input_ids", "attention_mask")}
    oneshot(
        model=model,
        tokenizer=tokenizer,
        dataset=Dataset.from_dict(columns),
        recipe=steps,
        max_seq_length=longest,
        num_calibration_samples=len(texts),
        pipeline="sequential",
    )


def _save(model: Any, tokenizer: Any, source: Path, out: Path) -> None:
    """In 16 bits where not quantized, with the files that an engine reads beside the weights."""
    import torch

    out.parent.mkdir(parents=True, exist_ok=True)
    model.to(torch.float16)
    model.config.dtype = torch.float16
    model.save_pretrained(out, save_compressed=True)
    tokenizer.save_pretrained(out)
    for name in COMPANIONS:
        if (source / name).is_file():
            shutil.copy(source / name, out / name)


def _measure(model: Any, tokenizer: Any, folder: Path, judged: Task | None) -> tuple[dict[str, Any], list[bool]]:
    """Bytes, and with a task accuracy and pace; and which questions were answered rightly."""
    measured: dict[str, Any] = {"bytes": sum(file.stat().st_size for file in folder.glob("*.safetensors"))}
    if judged is None:
        return measured, []
    right, tokens_per_s = _answer(model, tokenizer, judged)
    accuracy = {"accuracy": round(sum(right) / len(right), 4), "right": sum(right), "tokens_per_s": tokens_per_s}
    return measured | accuracy, right


def _answer(model: Any, tokenizer: Any, judged: Task) -> tuple[list[bool], float]:
    """Greedy, in batches in the task's order.

    Tokens per second are of the whole, in 32 bits and without an engine's kernels: of this machine, not of serving.
    """
    import torch

    tokenizer.padding_side = "left"
    right: list[bool] = []
    tokens = 0
    started = time.monotonic()
    for at in range(0, len(judged.questions), BATCH):
        batch = judged.questions[at : at + BATCH]
        ids = tokenizer([q.prompt for q in batch], return_tensors="pt", padding=True, add_special_tokens=False)
        ids.pop("token_type_ids", None)
        with torch.inference_mode():
            out = model.generate(
                **ids, max_new_tokens=judged.max_new_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
            )
        written = out[:, ids["input_ids"].shape[1] :]
        tokens += int((written != tokenizer.pad_token_id).sum())
        answers = tokenizer.batch_decode(written, skip_special_tokens=True)
        right += [question.right(answer) for question, answer in zip(batch, answers, strict=True)]
    return right, round(tokens / (time.monotonic() - started), 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", type=Path)
    parser.add_argument("out", metavar="OUT", type=Path)
    parser.add_argument("--method", choices=("gptq", "awq"), required=True)
    parser.add_argument("--bits", type=int, choices=(4, 8), required=True)
    parser.add_argument("--activations", type=int, choices=(8, 16), default=16)
    parser.add_argument("--group", type=int)
    parser.add_argument("--calibration", metavar="FILE")
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--task", metavar="nano-tutor|FILE")
    parser.add_argument("--items", type=int, default=1000)
    return parser


if __name__ == "__main__":
    sys.exit(main())
