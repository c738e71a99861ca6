"""transformers: vision models and models of images with text that no rule was written for."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from architectures.registry import Built, architecture

held_out = partial(architecture, held_out=True)

VOCABULARY = 97


def _pixels(size: int) -> dict[str, Any]:
    """Keywords of a call with two square colour images: pixel values (2, 3, size, size)."""
    return {"pixel_values": torch.randn(2, 3, size, size)}


@held_out("vision_held_out/siglip")
def siglip() -> Built:
    """transformers/models/siglip/modeling_siglip.py: two towers, images pooled by one learned query's attention."""
    from transformers import SiglipConfig, SiglipModel

    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": 40,
        "intermediate_size": 72,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 20,
        "projection_size": 48,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    vision = {
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 24,
        "patch_size": 8,
    }
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
    return model.eval(), {"input_ids": torch.randint(4, VOCABULARY, (2, 11)), **_pixels(24)}


@held_out("vision_held_out/deit")
def deit() -> Built:
    """transformers/models/deit/modeling_deit.py: a class and a distillation token, each with its own classifier."""
    from transformers import DeiTConfig, DeiTForImageClassificationWithTeacher

    config = DeiTConfig(
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=24,
        patch_size=8,
        num_labels=7,
    )
    return DeiTForImageClassificationWithTeacher(config).eval(), _pixels(24)


@held_out("vision_held_out/swinv2")
def swinv2() -> Built:
    """transformers/models/swinv2/modeling_swinv2.py: cosine attention, norms last, a network of position biases."""
    from transformers import Swinv2Config, Swinv2Model

    config = Swinv2Config(
        image_size=32, patch_size=4, embed_dim=32, depths=[2, 2], num_heads=[2, 4], window_size=4, mlp_ratio=1.5
    )
    return Swinv2Model(config).eval(), _pixels(32)


@held_out("vision_held_out/levit")
def levit() -> Built:
    """transformers/models/levit/modeling_levit.py: batch norms after every linear, attention that shrinks the image."""
    from transformers import LevitConfig, LevitForImageClassificationWithTeacher

    config = LevitConfig(
        image_size=64,
        hidden_sizes=[32, 40, 56],
        num_attention_heads=[2, 3, 4],
        depths=[2, 1, 1],
        key_dim=[8, 8, 8],
        attention_ratio=[2, 2, 2],
        mlp_ratio=[2, 3, 2],
        down_ops=[["Subsample", 8, 4, 4, 2, 2], ["Subsample", 8, 5, 4, 2, 2]],
        num_labels=7,
    )
    return LevitForImageClassificationWithTeacher(config).eval(), _pixels(64)


@held_out("vision_held_out/mobilevit")
def mobilevit() -> Built:
    """transformers/models/mobilevit/modeling_mobilevit.py: inverted residuals around transformers, a mask decoder."""
    from transformers import MobileViTConfig, MobileViTForSemanticSegmentation

    config = MobileViTConfig(
        image_size=64,
        hidden_sizes=[24, 32, 40],
        neck_hidden_sizes=[8, 16, 16, 24, 32, 40, 48],
        num_attention_heads=2,
        mlp_ratio=1.5,
        expand_ratio=3.0,
        aspp_out_channels=20,
        atrous_rates=[1, 2, 3],
        num_labels=7,
    )
    return MobileViTForSemanticSegmentation(config).eval(), _pixels(64)


@held_out("vision_held_out/regnet")
def regnet() -> Built:
    """transformers/models/regnet/modeling_regnet.py: bottlenecks with squeeze and excitation, no attention."""
    from transformers import RegNetConfig, RegNetForImageClassification

    config = RegNetConfig(
        embedding_size=16, hidden_sizes=[24, 40, 56], depths=[1, 2, 2], groups_width=8, layer_type="y", num_labels=7
    )
    return RegNetForImageClassification(config).eval(), _pixels(64)


@held_out("vision_held_out/vit_mae")
def vit_mae() -> Built:
    """transformers/models/vit_mae/modeling_vit_mae.py: a quarter of the patches encoded, all of them decoded."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    config = ViTMAEConfig(
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=4,
        decoder_hidden_size=40,
        decoder_intermediate_size=72,
        decoder_num_hidden_layers=2,
        decoder_num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    return ViTMAEForPreTraining(config).eval(), {**_pixels(32), "noise": torch.rand(2, 16)}


@held_out("vision_held_out/sam")
def sam() -> Built:
    """transformers/models/sam/modeling_sam.py: an image (2, 3, 32, 32), two prompts of three points in each."""
    from transformers import SamConfig, SamModel

    vision = {
        "hidden_size": 48,
        "mlp_dim": 80,
        "output_channels": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 4,
        "window_size": 3,
        "global_attn_indexes": [1],
        "num_pos_feats": 16,
    }
    prompt = {
        "hidden_size": 32,
        "image_size": 32,
        "patch_size": 4,
        "image_embedding_size": 8,
        "mask_input_channels": 12,
    }
    decoder = {"hidden_size": 32, "mlp_dim": 56, "num_attention_heads": 2, "iou_head_hidden_dim": 24}
    config = SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    points = {"input_points": 32 * torch.rand(2, 2, 3, 2), "input_labels": torch.tensor([1, 0, 1]).expand(2, 2, 3)}
    return SamModel(config).eval(), {**_pixels(32), **points}


@held_out("vision_held_out/qwen2_vl")
def qwen2_vl() -> Built:
    """transformers/models/qwen2_vl/modeling_qwen2_vl.py: two images of 4 x 6 and 4 x 4 patches, one in each text."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 48, "mlp_ratio": 3, "num_heads": 2, "patch_size": 4}
    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2]},
    }
    image_token = 3
    config = Qwen2VLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=image_token,
        video_token_id=2,
        vision_start_token_id=4,
        vision_end_token_id=5,
    )
    ids = torch.randint(6, VOCABULARY, (2, 11))
    ids[0, 2:8] = image_token  # 4 * 6 patches, merged by fours
    ids[1, 3:7] = image_token
    example = {
        "input_ids": ids,
        "mm_token_type_ids": (ids == image_token).int(),
        "pixel_values": torch.randn(4 * 6 + 4 * 4, 3 * 2 * 4 * 4),
        "image_grid_thw": torch.tensor([[1, 4, 6], [1, 4, 4]]),
    }
    return Qwen2VLForConditionalGeneration(config).eval(), example
