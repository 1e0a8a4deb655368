"""GPTQ and AWQ as recipes of llm-compressor, which writes what vLLM reads (compressed-tensors)."""

from typing import Any

from tools.quantize.tasks import Refused

GROUPS = (128, 64, 32)


def group_size(config: Any, asked: int | None) -> int:
    """The largest group that divides the inputs of every matrix, or the one that was asked for. Raises Refused."""
    inputs = {config.hidden_size, config.intermediate_size, config.num_attention_heads * head_dim(config)}
    fitting = [size for size in ([asked] if asked else GROUPS) if all(not n % size for n in inputs)]
    if not fitting:
        raise Refused(f"no group size divides {', '.join(map(str, sorted(inputs)))}; give one with --group")
    return fitting[0]


def head_dim(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def recipe(method: str, bits: int, group: int, activations: int) -> list[Any]:
    """Linear layers only: embeddings and output stay as they are."""
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier

    groups = {"config_groups": {"group_0": _scheme(method, bits, group, activations)}, "ignore": ["lm_head"]}
    if method == "gptq":
        return [GPTQModifier(**groups)]
    _leave_memory_unpinned()
    return [AWQModifier(duo_scaling="both"), QuantizationModifier(**groups)]


def _leave_memory_unpinned() -> None:
    """llm-compressor 0.14 pins what AWQ caches for copies to a GPU, which torch refuses where there is none."""
    import torch
    from llmcompressor.pipelines.cache import IntermediatesCache

    if not torch.accelerator.is_available():
        IntermediatesCache.pin_memory = lambda *_, **__: None


def _scheme(method: str, bits: int, group: int, activations: int) -> dict[str, Any]:
    """AWQ has zero points, GPTQ is symmetric; with 8-bit activations weights are scaled by channel, as kernels want."""
    weights: dict[str, Any] = {"num_bits": bits, "type": "int", "symmetric": method == "gptq"}
    if activations == 8:
        inputs = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
        return {"targets": ["Linear"], "weights": weights | {"strategy": "channel"}, "input_activations": inputs}
    return {"targets": ["Linear"], "weights": weights | {"strategy": "group", "group_size": group}}
