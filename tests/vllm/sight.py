"""A Qwen2-VL checkpoint with random weights: enough to show that what a model answers depends on the picture."""

import json
from pathlib import Path

NANO = Path("models/nano-tutor")
MARKS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
TEMPLATE = (
    "{% for m in messages %}<|user|>{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}"
    "{% if part.type == 'text' %}{{ part.text }}"
    "{% else %}<|vision_start|><|{{ part.type }}_pad|><|vision_end|>{% endif %}"
    "{% endfor %}{% endif %}{% endfor %}<|bot|>"
)
CONTEXT = 512
LAYERS, HEADS, HEAD = 2, 2, 64
PATCH, MERGED = 14, 2
"""A patch is 14 pixels, and 2 × 2 patches make one token."""


def seeing_model(folder: Path) -> Path:
    """Writes weights, tokenizer and processors of a model of two layers."""
    import torch
    from tokenizers import Tokenizer
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    tokenizer = Tokenizer.from_file(str(NANO / "tokenizer.json"))
    tokenizer.add_special_tokens(list(MARKS))
    tokenizer.save(str(folder / "tokenizer.json"))
    start, end, image, video = (tokenizer.token_to_id(mark) for mark in MARKS)
    torch.manual_seed(3)
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": tokenizer.get_vocab_size(),
            "hidden_size": HEADS * HEAD,
            "intermediate_size": 256,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS,
            "max_position_embeddings": CONTEXT,
            "tie_word_embeddings": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [16, 8, 8]},
            "eos_token_id": tokenizer.token_to_id("<|end|>"),
        },
        vision_config={
            "depth": LAYERS,
            "embed_dim": HEADS * HEAD,
            "hidden_size": HEADS * HEAD,
            "num_heads": HEADS,
            "mlp_ratio": 2,
            "patch_size": PATCH,
            "spatial_merge_size": MERGED,
        },
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
        tie_word_embeddings=False,
    )
    model = Qwen2VLForConditionalGeneration(config)
    for weights in model.parameters():
        if weights.ndim > 1:
            torch.nn.init.normal_(weights, std=0.2)  # far from uniform, so that a greedy answer is a clear one
    model.save_pretrained(folder, safe_serialization=True)
    sizes = {"shortest_edge": 4 * (PATCH * MERGED) ** 2, "longest_edge": 64 * (PATCH * MERGED) ** 2}
    seen = {"patch_size": PATCH, "merge_size": MERGED, "temporal_patch_size": 2, "size": sizes}
    processors = {
        "preprocessor_config.json": seen | {"image_processor_type": "Qwen2VLImageProcessor"},
        "video_preprocessor_config.json": seen | {"video_processor_type": "Qwen2VLVideoProcessor"},
        "processor_config.json": {"processor_class": "Qwen2VLProcessor"},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "<|end|>",
            "chat_template": TEMPLATE,
            "image_token": "<|image_pad|>",
            "video_token": "<|video_pad|>",
        },
    }
    for name, content in processors.items():
        (folder / name).write_text(json.dumps(content), "utf-8")
    return folder
