"""A LoRA adapter with random weights: enough to change what the nano tutor says."""

import json
from pathlib import Path

RANK = 4
HIDDEN, LAYERS = 256, 4  # the nano tutor's
OUTPUTS = {"q_proj": 256, "v_proj": 128}


def random_adapter(folder: Path) -> Path:
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(1)
    tensors = {}
    for layer in range(LAYERS):
        for name, outputs in OUTPUTS.items():
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors[f"{prefix}.lora_A.weight"] = torch.randn(RANK, HIDDEN)
            tensors[f"{prefix}.lora_B.weight"] = torch.randn(outputs, RANK)
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 8, "bias": "none"}
    config = settings | {"target_modules": list(OUTPUTS), "base_model_name_or_path": "models/nano-tutor"}
    (folder / "adapter_config.json").write_text(json.dumps(config), "utf-8")
    return folder
