"""The encoder of audio with a pretrained checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from polymodal.core.errors import RecipeError
from polymodal.core.needs import needs_value
from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.pretrained import PretrainedEncoder, PretrainedOptions
from polymodal.nn.encoders.token_pooling import average_tokens
from polymodal.pretrained.audio_features import SpectrogramExtractor, WhisperFeatures, audio_feature_extractor
from polymodal.pretrained.audio_tokens import SpectrogramTokenLayout, WaveformTokenLayout, audio_token_layout
from polymodal.pretrained.silent_window import encode_with_condensed_silence, num_dense_tokens


@register
class PretrainedAudio(PretrainedEncoder):
    """A pretrained audio network.

    * The encoder of Whisper (Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2023) reads
      a window of fixed length, padded with silence. Its tokens are those that overlap the audio; the pooled output is
      their mean. A frozen encoder reads few tokens in place of the silence (`padding`).
    * wav2vec 2.0 (Baevski et al., 2020), HuBERT (Hsu et al., 2021) and WavLM (Chen et al., 2022) read the waveform; the
      pooled output is the mean of the tokens. If padding would affect real positions, only items of equal length run
      together, so that the features of an item do not depend on the batch.
    * AST (Gong et al., "AST: Audio Spectrogram Transformer", 2021): the pooled output is that of the network, the mean
      of the class and the distillation token. Patches of the same time are averaged over frequency.
    * CLAP (Wu et al., "Large-Scale Contrastive Language-Audio Pretraining ...", 2023): the pooled output is the
      normalized audio embedding in the common space with texts. Tokens of the same time are averaged over frequency.

    Tokens are ordered in time. The time of a single token is the center of the audio.

    Raises:
        RecipeError: the network does not match its feature extractor, its architecture is not supported, or the
            checkpoint does not support this fine-tuning mode.
    """

    class Options(PretrainedOptions):
        name: Literal["pretrained_audio"] = "pretrained_audio"
        padding: Annotated[Literal["condensed", "max_length"], needs_value("fine_tuning", "freeze")] = "condensed"
        """How a frozen Whisper encoder reads the silence that fills its window after shorter audio. `condensed`: few
        tokens stand for it, with nearly the same output at a fraction of the cost; `max_length`: all of it, as the
        checkpoint was trained. Other networks have one way."""

    modality: ClassVar[str] = "audio"
    options: Options

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.extractor = audio_feature_extractor(self.checkpoint)
        self.layout = audio_token_layout(self.extractor, self.backbone.model.config)
        self.is_whisper = isinstance(self.extractor, WhisperFeatures)
        if options.padding != "condensed" and not self.is_whisper:
            raise RecipeError("padding", f"{self.checkpoint.name} is no Whisper checkpoint; remove this option")
        self.equal_length_only = isinstance(self.layout, WaveformTokenLayout) and self.layout.equal_length_only
        if getattr(self.backbone.model.config, "add_adapter", False) and options.fine_tuning not in ("freeze", "full"):
            raise RecipeError(
                "fine_tuning", f"{self.checkpoint.name} has convolutions after its layers; use `freeze` or `full`"
            )

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        if not self.equal_length_only or (self.is_checkpoint_frozen and "hidden" in data):
            return super().forward(data)

        def run(part: dict[str, Tensor]) -> dict[str, Tensor]:
            features, mask = super(PretrainedAudio, self).forward(part)
            return {"features": features, "mask": mask}

        found = run_by_length(run, data)
        return found["features"], found["mask"]

    def encode_frozen(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        return run_by_length(super().encode_frozen, data) if self.equal_length_only else super().encode_frozen(data)

    @property
    def condenses_silence(self) -> bool:
        """Whether few tokens stand for the silence after the audio. The decoder of the checkpoint reads all of it."""
        return self.is_whisper and self.options.padding == "condensed" and not self.keep_all

    @property
    def frozen_variant(self) -> str:  # type: ignore[override]
        return ", condensed silence" if self.condenses_silence else ""

    def run_frozen(self, inputs: dict[str, Tensor], data: dict[str, Tensor]) -> Any:
        """Items of about equal length run together, so that the output of an item does not depend on the batch."""
        if not self.condenses_silence:
            return super().run_frozen(inputs, data)
        model, features = self.backbone.model, inputs["input_features"]
        dense = num_dense_tokens(self.layout.num_tokens(data["length"]), model.embed_positions.num_embeddings)
        groups, outputs = [], []
        for count in sorted(set(dense.tolist())):
            groups.append((dense == count).nonzero().squeeze(1))
            outputs.append(encode_with_condensed_silence(model, features[groups[-1]], count))
        return SimpleNamespace(last_hidden_state=_pad_and_concat(outputs)[torch.cat(groups).argsort()])

    def item_bytes(self, length: int | None = None) -> float:
        """The size of the spectrogram for networks with a fixed-length window, which does not depend on the audio."""
        return (
            4.0 * self.extractor.num_frames * self.extractor.n_mels
            if isinstance(self.extractor, SpectrogramExtractor)
            else 0.0
        )

    def compute_times(self, data: dict[str, Tensor], length: int) -> Tensor:
        """Times in seconds: the center of the audio for a single token; the mean time for averaged tokens."""
        if self.options.max_tokens == 1:
            return (data["length"].float() / 2 / self.extractor.sampling_rate).unsqueeze(1)
        count = self.layout.num_tokens(data["length"])
        most = max(length, int(count.max()))
        middles, mask = self.layout.times(most, count.device).expand(len(count), -1), length_mask(count, most)
        if self.options.max_tokens is not None:
            middles = average_tokens(middles.unsqueeze(2), mask, self.options.max_tokens)[0].squeeze(2)
        return middles[:, :length]

    def prepare_inputs(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """`input_features` or `input_values`, and their mask, from `values [items, 1, samples]` and `length`."""
        with torch.no_grad(), torch.autocast(data["values"].device.type, enabled=False):
            sound, length = data["values"][:, 0].float(), data["length"]
            sound = F.pad(sound, (0, max(0, self.layout.receptive_field - sound.shape[1])))
            found = self.extractor(sound, length)
            if found.pop("attention_mask", None) is not None and not self.equal_length_only:
                mask = length_mask(length.clamp_min(self.layout.receptive_field), sound.shape[1])
                found["attention_mask"] = mask.long()
            dtype = next(self.backbone.parameters()).dtype
            return {name: one.to(dtype) if one.is_floating_point() else one for name, one in found.items()}

    def extract_tokens(self, output: Any, inputs: dict[str, Tensor], data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        if self.options.max_tokens == 1:
            found = getattr(output, "audio_embeds", None)
            found = getattr(output, "pooler_output", None) if found is None else F.normalize(found, dim=-1)
            if found is not None:
                return found.unsqueeze(1), torch.ones(len(found), 1, dtype=torch.bool, device=found.device)
        tokens = self.layout.merge_frequencies(output.last_hidden_state)
        if self.keep_all and isinstance(self.layout, SpectrogramTokenLayout):
            return tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return tokens, length_mask(self.layout.num_tokens(data["length"]), tokens.shape[1])

    def _placeholder_inputs(self, items: dict[str, Tensor], hidden: Tensor) -> dict[str, Tensor]:
        return self.prepare_inputs(items) if self.equal_length_only else super()._placeholder_inputs(items, hidden)


def run_by_length(run: Callable[[dict[str, Tensor]], dict[str, Tensor]], data: dict[str, Tensor]) -> dict[str, Tensor]:
    """Apply `run` to groups of items of equal `length`, without padding, and concatenate in the order of the items.

    data: prepared audio, or the output of `encode_frozen`
    run: a group of items -> tensors `[items, ...]`, whose second dimension may differ between groups
    """
    chosen, parts = [], []
    for length in sorted(set(data["length"].tolist())):
        group = (data["length"] == length).nonzero().squeeze(1)
        part = {name: tensor.index_select(0, group) for name, tensor in data.items()}
        if "hidden" in part:
            part["hidden"] = part["hidden"][:, :length]
        else:
            part["values"] = part["values"][:, :, :length]
        parts.append(run(part))
        chosen.append(group)
    order = torch.cat(chosen).argsort()
    return {name: _pad_and_concat([part[name] for part in parts]).index_select(0, order) for name in parts[0]}


def _pad_and_concat(parts: list[Tensor]) -> Tensor:
    if parts[0].dim() > 1:
        most = max(part.shape[1] for part in parts)
        parts = [F.pad(part, (*[0, 0] * (part.dim() - 2), 0, most - part.shape[1])) for part in parts]
    return torch.cat(parts)
