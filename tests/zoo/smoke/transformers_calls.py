"""An example call for every model class of transformers.

`smoke.transformers_calls:NAME` is a function that makes the one of class NAME, as a spec's `inputs` names it. The call
gives what the class cannot do without: its main input, arguments without a default, tokens to a decoder, both inputs
of a model with two towers. An argument is made by its name and the sizes in the config; what cannot be told from them
stands in CALLS. Batch 2, text of 16 tokens, images of the config's size.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from smoke.tensors import floats, ints, mask
from smoke.transformers_models import config_of


def _first(config: Any, *names: str, default: Any) -> Any:
    """The first of these settings that the config, or the part of it before the dot, has."""
    for name in names:
        part, _, last = name.rpartition(".")
        value = getattr(getattr(config, part, None) if part else config, last, None)
        if value is not None:
            return value
    return default


def _tokens(length: int) -> torch.Tensor:
    """Token ids above the usual special ones."""
    return 100 + ints(100, 2, length)


def _image(config: Any) -> torch.Tensor:
    size = _first(config, "image_size", "vision_config.image_size", default=224)
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    return floats(2, _first(config, "num_channels", "vision_config.num_channels", default=3), height, width)


def _audio_features(config: Any) -> torch.Tensor:
    bins = _first(config, "num_mel_bins", "audio_config.num_mel_bins", default=80)
    return floats(2, bins, 2 * _first(config, "max_source_positions", default=1500))


_ARGUMENTS: dict[str, Callable[[Any], torch.Tensor]] = {
    "input_ids": lambda config: _tokens(16),
    "decoder_input_ids": lambda config: _tokens(7),
    "attention_mask": lambda config: mask(2, 16).long(),
    "inputs_embeds": lambda config: floats(2, 16, config.hidden_size),
    "pixel_values": _image,
    "input_values": lambda config: floats(2, 16000),
    "input_features": _audio_features,
}


def _image_tokens(count: int, token: int = 5) -> torch.Tensor:
    """Two texts that begin with the placeholders of an image."""
    return torch.cat([torch.full((2, count), token), _tokens(8)], dim=1)


def _patches(width: int) -> dict[str, Any]:
    """Two images of 8 x 8 and 4 x 8 patches, packed."""
    return {"hidden_states": floats(96, width), "grid_thw": torch.tensor([[1, 8, 8], [1, 4, 8]])}


def _text_with_grids(token: int, width: int) -> dict[str, Any]:
    """Two texts with an image each of 8 x 12 patches of `width` values, four patches merged to a token."""
    return {
        "input_ids": _image_tokens(24, token),
        "pixel_values": floats(192, width),
        "image_grid_thw": torch.tensor([[1, 8, 12], [1, 8, 12]]),
        "mm_token_type_ids": torch.cat([mask(2, 24), ~mask(2, 8)], dim=1).long(),
    }


def _series(length: int, ahead: int) -> dict[str, Any]:
    """A past and a future of a time series without further features."""
    past = {"past_values": floats(2, length), "past_time_features": floats(2, length, 0)}
    future = {"future_values": floats(2, ahead), "future_time_features": floats(2, ahead, 0)}
    return past | future | {"past_observed_mask": torch.ones(2, length)}


CALLS: dict[str, Callable[[], dict[str, Any]]] = {
    "ASTModel": lambda: {"input_values": floats(2, 1024, 128)},
    "Blip2Model": lambda: {"input_ids": _image_tokens(32)},
    "Blip2QFormerModel": lambda: {"query_embeds": floats(2, 32, 768), "encoder_hidden_states": floats(2, 9, 1408)},
    "ClapModel": lambda: {"input_features": floats(2, 1, 1001, 64)},
    "CohereAsrModel": lambda: {"input_features": floats(2, 200, 128), "decoder_input_ids": _tokens(7)},
    "Cosmos3EdgeModel": lambda: _text_with_grids(19, 768),
    "DecisionTransformerModel": lambda: {
        "states": floats(2, 5, 17),
        "actions": floats(2, 5, 4),
        "rewards": floats(2, 5, 1),
        "returns_to_go": floats(2, 5, 1),
        "timesteps": ints(100, 2, 5),
        "attention_mask": mask(2, 5).long(),
    },
    "DeepseekVLHybridModel": lambda: {
        "input_ids": _image_tokens(196),
        "pixel_values": floats(2, 3, 224, 224),
        "high_res_pixel_values": floats(2, 3, 1024, 1024),
    },
    "Dots3NoteModel": lambda: _text_with_grids(5, 588),
    "EfficientLoFTRModel": lambda: {"pixel_values": floats(2, 2, 3, 64, 96)},
    "EsmModel": lambda: {"input_ids": 4 + ints(20, 2, 16)},
    "EncodecModel": lambda: {"input_values": floats(2, 1, 16000)},
    "Glm4vModel": lambda: _text_with_grids(151343, 1176),
    "Glm4vMoeModel": lambda: _text_with_grids(151363, 1176),
    "Glm4vMoeVisionModel": lambda: _patches(1176),
    "GlmOcrModel": lambda: _text_with_grids(59280, 1176),
    "GlmOcrVisionModel": lambda: _patches(1176),
    "GraniteSpeech5ForCTC": lambda: {"input_features": floats(2, 200, 320)},
    "IdeficsModel": lambda: {
        "pixel_values": floats(2, 1, 3, 224, 224),
        "image_attention_mask": mask(2, 16, 1).long(),
        "attention_mask": mask(2, 16).long(),
    },
    "Idefics3Model": lambda: {"input_ids": _image_tokens(9), "pixel_values": floats(2, 1, 3, 192, 192)},
    "InformerModel": lambda: _series(15, 8),
    "Lfm2VlModel": lambda: {
        "input_ids": _image_tokens(64, 396),
        "pixel_values": floats(2, 256, 768),
        "spatial_shapes": torch.tensor([[16, 16], [16, 16]]),
        "pixel_attention_mask": mask(2, 256).long(),
    },
    "LlavaModel": lambda: {"input_ids": _image_tokens(576), "pixel_values": floats(2, 3, 336, 336)},
    "MimiModel": lambda: {"input_values": floats(2, 1, 16000)},
    "MusicgenModel": lambda: {"input_ids": ints(2048, 8, 16), "encoder_hidden_states": floats(2, 9, 1024)},
    "MiniCPMV4_7VisionModel": lambda: {
        "pixel_values": floats(1, 3, 16, 96 * 16),
        "target_sizes": torch.tensor([[8, 8], [4, 8]]),
    },
    "MistralLarge4Model": lambda: {
        "input_ids": _image_tokens(6, 10),
        "pixel_values": floats(2, 3, 56, 84),
        "image_sizes": torch.tensor([[56, 84], [56, 84]]),
    },
    "ModernVBertModel": lambda: {"input_ids": _image_tokens(16), "pixel_values": floats(2, 1, 3, 256, 256)},
    "MuseSparkVisionModel": lambda: {
        "pixel_values": floats(96, 1176),
        "grid_thw": torch.tensor([[1, 8, 8], [1, 4, 8]]),
    },
    "Nemotron3DiarizationAudioModel": lambda: {"input_features": floats(2, 200, 128)},
    "PaliGemmaModel": lambda: {"input_ids": _image_tokens(256), "pixel_values": floats(2, 3, 224, 224)},
    "ParakeetForCTC": lambda: {"input_features": floats(2, 200, 80)},
    "PatchTSTModel": lambda: {"past_values": floats(2, 32, 1)},
    "PerceiverModel": lambda: {"inputs": floats(2, 16, 768)},
    "PocketTTSAudioTokenizerEncoderModel": lambda: {"input_values": floats(2, 1, 19200)},
    "Qwen2AudioModel": lambda: {
        "input_ids": _image_tokens(750, 151646),
        "input_features": floats(2, 128, 3000),
        "attention_mask": mask(2, 758).long(),
        "feature_attention_mask": mask(2, 3000).long(),
    },
    "Qwen2VLModel": lambda: _text_with_grids(151655, 1176),
    "Qwen2_5_VisionTransformerPretrainedModel": lambda: _patches(1176),
    "SeamlessM4Tv2Model": lambda: {"input_features": floats(2, 100, 160), "decoder_input_ids": _tokens(7)},
    "Speech2TextModel": lambda: {"input_features": floats(2, 200, 80)},
    "SpeechT5Model": lambda: {"input_values": floats(2, 20, 768), "decoder_input_values": floats(2, 7, 768)},
    "TimeSeriesTransformerModel": lambda: _series(15, 8),
    "TimesFm2_5Model": lambda: {"past_values": floats(2, 96)},
    "TimesFmModel": lambda: {
        "past_values": floats(2, 96),
        "past_values_padding": ints(1, 2, 96),
        "freq": ints(3, 2, 1),
    },
    "VibeVoiceAcousticTokenizerDecoderModel": lambda: {"hidden_states": floats(2, 64, 9)},
    "VideoLlama3Model": lambda: {
        **_text_with_grids(151655, 768),
        "image_merge_sizes": torch.tensor([2, 2]),
    },
    "VideoLlavaModel": lambda: {"input_ids": _image_tokens(256), "pixel_values": floats(2, 3, 224, 224)},
    "VideoMAEModel": lambda: {"pixel_values": floats(2, 16, 3, 64, 64)},
    "VitsModel": lambda: {"input_ids": ints(38, 2, 16)},
    "Wav2Vec2BertModel": lambda: {"input_features": floats(2, 100, 160)},
}


def example_of(name: str) -> dict[str, Any]:
    """The keywords of the example call of a class."""
    import transformers

    kind, config = getattr(transformers, name), config_of(name)
    given = CALLS.get(name, dict)()
    names = _needed(kind, config) - given.keys()
    return {name: _ARGUMENTS[name](config) for name in sorted(names) if name in _ARGUMENTS} | given


def _needed(kind: Any, config: Any) -> set[str]:
    """The arguments that the class cannot do without."""
    parameters = {key: p for key, p in inspect.signature(kind.forward).parameters.items() if key != "self"}
    needed = {key for key, p in parameters.items() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD}
    needed.add(kind.main_input_name)
    if _first(config, "is_encoder_decoder", default=False):
        needed.add("decoder_input_ids")
    image_token = _first(config, "image_token_id", "image_token_index", default=None)
    if image_token is None and _first(config, "text_config", default=None) is not None:
        needed |= {"input_ids", "pixel_values"}
    return needed & parameters.keys()


def __getattr__(name: str) -> Callable[[], dict[str, Any]]:
    if name.startswith("_"):
        raise AttributeError(name)
    return lambda: example_of(name)
