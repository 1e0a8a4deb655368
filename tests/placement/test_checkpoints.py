"""What is read of a checkpoint, and which ones are refused before anything of them could run."""

import json
import pickle
import shutil
from pathlib import Path

import pytest

from serve_app.errors import ConfigError
from serve_app.policies.architectures import LANGUAGE
from serve_app.policies.placement import HALF
from serve_app.services.checkpoints import check_head_size, check_revision, read

NANO = Path(__file__).parents[2] / "models" / "nano-tutor"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def nano(tmp_path: Path) -> Path:
    """A copy of the nano tutor's checkpoint, to be spoilt."""
    copy = tmp_path / "nano"
    copy.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer_config.json"):
        shutil.copy(NANO / name, copy / name)
    return copy


def change(folder: Path, name: str, **values: object) -> None:
    file = folder / name
    content = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(content | values))


def test_the_nano_tutor() -> None:
    facts = read(NANO)
    assert facts.architecture is not None
    assert facts.elements == facts.architecture.parameters
    assert facts.stored == facts.loaded(HALF) == 2 * facts.elements
    assert facts.stored < (NANO / "model.safetensors").stat().st_size
    assert (facts.architecture.kv_elements(), facts.context_tokens) == (2 * 4 * 2 * 64, 512)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "training_args.bin", "weights.pt", "deep/er/optimizer.pth"])
def test_pickles_are_refused(nano: Path, name: str) -> None:
    (nano / name).parent.mkdir(parents=True, exist_ok=True)
    (nano / name).write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ConfigError, match=rf"holds {Path(name).name}, a pickle.*safetensors"):
        read(nano)


def test_ctranslate2s_own_bin_is_no_pickle(nano: Path) -> None:
    shutil.copy(NANO / "ct2-int8" / "model.bin", nano / "model.bin")
    assert read(nano).elements


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_code_of_a_checkpoint_is_refused(nano: Path, name: str) -> None:
    change(nano, name, auto_map={"AutoModel": "evil.Model"})
    with pytest.raises(ConfigError, match=f"{name}.*auto_map"):
        read(nano)


def test_a_file_that_is_cut_short_is_refused(nano: Path) -> None:
    weights = nano / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ConfigError, match=r"model.safetensors is cut short"):
        read(nano)


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"<html>not found</html>"])
def test_a_file_that_is_no_safetensors_is_refused(nano: Path, content: bytes) -> None:
    (nano / "model.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match="no safetensors file"):
        read(nano)


def test_a_shard_that_is_missing_is_named(nano: Path) -> None:
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (nano / "model.safetensors").rename(nano / shards["a"])
    change(nano, "model.safetensors.index.json", weight_map=shards)
    with pytest.raises(ConfigError, match=r"lacks model-00002-of-00002"):
        read(nano)


def test_a_folder_without_weights_or_config_is_refused(nano: Path, tmp_path: Path) -> None:
    (nano / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="lacks safetensors"):
        read(nano)
    with pytest.raises(ConfigError, match=r"no config.json"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("settings", "name", "bits", "group"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "gptq-4bit", 4.16, 128),
        ({"quant_method": "awq", "bits": 4, "group_size": 64}, "awq-4bit", 4.31, 64),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "int", "group_size": 64}}},
            },
            "compressed-tensors-8bit",
            8.375,
            64,
        ),
        ({"quant_method": "fp8"}, "fp8", 8, 0),
    ],
)
def test_quantized_checkpoints(nano: Path, settings: dict[str, object], name: str, bits: float, group: int) -> None:
    change(nano, "config.json", quantization_config=settings)
    facts = read(nano)
    assert (facts.scheme.name, facts.scheme.group) == (name, group)
    assert facts.scheme.linear == pytest.approx(bits, abs=0.01)
    assert facts.loaded(HALF) == facts.stored


def test_latent_attention_is_read(nano: Path) -> None:
    change(nano, "config.json", kv_lora_rank=512, qk_rope_head_dim=64)
    model = read(nano).architecture
    assert model is not None
    assert model.latent == 576


def test_a_model_of_a_hub_needs_its_commit() -> None:
    for revision in (None, "main", COMMIT[:8]):
        with pytest.raises(ConfigError, match=r"revision: .*40 hex digits"):
            check_revision("Qwen/Qwen2.5-7B-Instruct", revision)
    check_revision("Qwen/Qwen2.5-7B-Instruct", COMMIT)


@pytest.mark.parametrize("model", ["models/nano-tutor", "/srv/models/x", "./x", "ai-models/qwen2.5-7b-instruct"])
def test_a_folder_needs_none(model: str) -> None:
    check_revision(model, None)


def test_head_sizes_that_vllm_lacks() -> None:
    model = LANGUAGE["qwen2.5-7b"]
    check_head_size(model, on_cpu=True)
    from dataclasses import replace

    with pytest.raises(ConfigError, match="heads of 16"):
        check_head_size(replace(model, head_dim=16), on_cpu=True)
    check_head_size(replace(model, head_dim=16), on_cpu=False)
    with pytest.raises(ConfigError, match="heads of 20"):
        check_head_size(replace(model, head_dim=20), on_cpu=False)
