"""A VITS model of random weights, small enough to make for a test. It needs torch and transformers."""

import json
from pathlib import Path

LETTERS = "abcdefghijklmnopqrstuvwxyz '-0123456789?+="


def tiny_vits(folder: Path, speakers: int = 2, rate: int = 16_000) -> Path:
    """A folder as `deployments.tts:Vits` reads it."""
    import torch
    from transformers import VitsConfig, VitsModel, VitsTokenizer

    torch.manual_seed(1)
    folder.mkdir(exist_ok=True)
    vocabulary = folder / "vocabulary.json"
    vocabulary.write_text(json.dumps({letter: index for index, letter in enumerate(["_", *LETTERS])}))
    VitsTokenizer(str(vocabulary), pad_token="_", unk_token="_", is_uroman=False, phonemize=False).save_pretrained(
        folder
    )
    config = VitsConfig(
        vocab_size=len(LETTERS) + 1,
        hidden_size=16,
        num_hidden_layers=1,
        ffn_dim=16,
        flow_size=16,
        spectrogram_bins=9,
        prior_encoder_num_flows=1,
        prior_encoder_num_wavenet_layers=1,
        posterior_encoder_num_wavenet_layers=1,
        duration_predictor_num_flows=1,
        duration_predictor_flow_bins=4,
        upsample_initial_channel=16,
        upsample_rates=[8, 8, 2, 2],
        upsample_kernel_sizes=[16, 16, 4, 4],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3, 5]],
        num_speakers=speakers,
        speaker_embedding_size=8,
        sampling_rate=rate,
    )
    VitsModel(config).save_pretrained(folder, safe_serialization=True)
    return folder
