"""Grounding DINO and SAM 2 with RANDOM weights, built in code and saved as folders: shapes and rules, no real masks."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

# of BERT's vocabulary: Grounding DINO's attention masks know these tokens by number
CLS, SEP, STOP, QUESTION = 101, 102, 1012, 1029
WORDS = ("left", "right", "eye", "mouth", "red", "ball", "hat", "a", "the")
# pixels of SAM 2's images
SIDE = 64


def save_detector(folder: Path, seed: int = 0) -> Path:
    """A Grounding DINO folder as `save_pretrained` writes it, with a tokenizer of a few words."""
    transformers = pytest.importorskip("transformers", reason="segmentation needs transformers")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = transformers.GroundingDinoConfig(
            backbone_config=transformers.SwinConfig(
                image_size=32,
                embed_dim=8,
                depths=[1, 1, 1, 1],
                num_heads=[1, 1, 2, 2],
                window_size=2,
                out_features=["stage2", "stage3", "stage4"],
            ),
            text_config=transformers.BertConfig(
                vocab_size=1100,
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=16,
                max_position_embeddings=64,
            ).to_dict(),
            num_queries=12,
            max_text_len=32,
            encoder_layers=1,
            decoder_layers=2,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            d_model=32,
            num_feature_levels=4,
            use_pretrained_backbone=False,
            use_timm_backbone=False,
            disable_custom_kernels=True,
        )
        transformers.GroundingDinoForObjectDetection(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    size = {"size": {"shortest_edge": 64, "longest_edge": 107}}
    (folder / "preprocessor_config.json").write_text(json.dumps(size))
    return folder


@cache
def tokenizer() -> Any:
    """BERT's tokenizer with a vocabulary of its special tokens, WORDS and fillers."""
    transformers = pytest.importorskip("transformers", reason="segmentation needs transformers")
    words = ["[PAD]", *(f"[unused{i}]" for i in range(1, 1100))]
    for number, word in ((100, "[UNK]"), (CLS, "[CLS]"), (SEP, "[SEP]"), (103, "[MASK]")):
        words[number] = word
    words[STOP], words[QUESTION] = ".", "?"
    words[1030 : 1030 + len(WORDS)] = WORDS
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "vocab.txt").write_text("\n".join(words))
        return transformers.BertTokenizerFast(str(Path(folder, "vocab.txt")))


def save_segmenter(folder: Path, seed: int = 0) -> Path:
    """A SAM 2 video folder, which the image model reads, too, as with the published checkpoints."""
    transformers = pytest.importorskip("transformers", reason="segmentation needs transformers")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hiera = transformers.Sam2HieraDetConfig(
            hidden_size=8,
            num_attention_heads=1,
            image_size=[SIDE, SIDE],
            window_positional_embedding_background_size=[2, 2],
            blocks_per_stage=[1, 2, 2, 1],
            embed_dim_per_stage=[8, 16, 32, 64],
            num_attention_heads_per_stage=[1, 1, 2, 2],
            window_size_per_stage=[4, 2, 2, 2],
            global_attention_blocks=[4],
        )
        vision = transformers.Sam2VisionConfig(
            backbone_config=hiera,
            backbone_channel_list=[64, 32, 16, 8],
            backbone_feature_sizes=[[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2],
            fpn_hidden_size=128,
        )
        config = transformers.Sam2VideoConfig(
            vision_config=vision,
            prompt_encoder_config={
                "hidden_size": 128,
                "image_size": SIDE,
                "patch_size": 16,
                "mask_input_channels": 4,
            },
            mask_decoder_config={
                "hidden_size": 128,
                "mlp_dim": 32,
                "num_attention_heads": 4,
                "iou_head_hidden_dim": 32,
            },
            image_size=SIDE,
            memory_attention_hidden_size=128,
            memory_attention_num_layers=1,
            memory_attention_num_attention_heads=1,
            memory_attention_feed_forward_hidden_size=32,
            memory_attention_rope_feat_sizes=[SIDE // 16] * 2,
            memory_encoder_hidden_size=128,
            memory_encoder_output_channels=64,
            mask_downsampler_embed_dim=128,
            memory_fuser_num_layers=1,
            memory_fuser_embed_dim=128,
            memory_fuser_intermediate_dim=64,
        )
        transformers.Sam2VideoModel(config).save_pretrained(folder)
    return folder
