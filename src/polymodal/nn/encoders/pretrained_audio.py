"""Audio networks with a pretrained checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from polymodal.core.errors import RecipeError
from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.pretrained import PretrainedEncoder, PretrainedOptions
from polymodal.nn.encoders.tokens import average_tokens
from polymodal.pretrained.sound_features import Spectrogram, sound_features
from polymodal.pretrained.sound_tokens import ConvolvedWaveform, FrameGroups, sound_tokens


@register
class PretrainedAudio(PretrainedEncoder):
    """A network over sounds as its checkpoint has it.

    * The encoder of Whisper (Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2023) sees a
      window of fixed length, the rest of it silent. Its tokens are those that the sound reaches into, its summary is
      their mean.
    * wav2vec 2.0 (Baevski et al., 2020), HuBERT (Hsu et al., 2021) and WavLM (Chen et al., 2022) read the waveform;
      the summary is the mean of the tokens. Networks whose padding would reach what is real run sounds of one length at
      a time, so that a sound gives the same whatever it is batched with.
    * AST (Gong et al., "AST: Audio Spectrogram Transformer", 2021): the summary is its own, the mean of the class and
      the distillation token. Its patches of one moment are averaged over pitch.
    * CLAP (Wu et al., "Large-Scale Contrastive Language-Audio Pretraining ...", 2023): the summary is the embedding
      that texts are compared with, of length 1. Its tokens of one moment are averaged over pitch.

    Tokens are in order of time; where there is one, its time is the middle of the sound.

    Raises:
        RecipeError: the network does not read what its feature extractor gives, its kind is not known, or the
            checkpoint cannot be tuned in this way.
    """

    class Options(PretrainedOptions):
        name: Literal["pretrained_audio"] = "pretrained_audio"

    modality: ClassVar[str] = "audio"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.sound = sound_features(self.card)
        self.tokens = sound_tokens(self.sound, self.backbone.model.config)
        self.alike = isinstance(self.tokens, ConvolvedWaveform) and self.tokens.alike
        if getattr(self.backbone.model.config, "add_adapter", False) and options.tune not in ("frozen", "full"):
            raise RecipeError("tune", f"{self.card.model} has convolutions behind its layers; frozen or full")

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        if not self.alike or (self.frozen and "hidden" in data):
            return super().forward(data)

        def run(part: dict[str, Tensor]) -> dict[str, Tensor]:
            features, mask = super(PretrainedAudio, self).forward(part)
            return {"features": features, "mask": mask}

        found = by_length(run, data)
        return found["features"], found["mask"]

    def settle(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        return by_length(super().settle, data) if self.alike else super().settle(data)

    def item_bytes(self) -> float:
        """Of networks with a window of fixed length, its spectrogram, however short the sound is."""
        return 4.0 * self.sound.total * self.sound.bands if isinstance(self.sound, Spectrogram) else 0.0

    def moments(self, data: dict[str, Tensor], length: int) -> Tensor:
        """Of one token the middle of the sound; of averaged ones the mean of their times; in seconds."""
        if self.options.tokens == 1:
            return (data["length"].float() / 2 / self.sound.rate).unsqueeze(1)
        count = self.tokens.count(data["length"])
        most = max(length, int(count.max()))
        middles, mask = self.tokens.times(most, count.device).expand(len(count), -1), length_mask(count, most)
        if self.options.tokens is not None:
            middles = average_tokens(middles.unsqueeze(2), mask, self.options.tokens)[0].squeeze(2)
        return middles[:, :length]

    def inputs(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """`input_features` or `input_values`, and what masks them, of `values [items, 1, samples]` and `length`."""
        with torch.no_grad(), torch.autocast(data["values"].device.type, enabled=False):
            sound, length = data["values"][:, 0].float(), data["length"]
            sound = F.pad(sound, (0, max(0, self.tokens.field - sound.shape[1])))
            found = self.sound(sound, length)
            if found.pop("attention_mask", None) is not None and not self.alike:
                mask = length_mask(length.clamp_min(self.tokens.field), sound.shape[1])
                found["attention_mask"] = mask.long()
            dtype = next(self.backbone.parameters()).dtype
            return {name: one.to(dtype) if one.is_floating_point() else one for name, one in found.items()}

    def read(self, output: Any, inputs: dict[str, Tensor], data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        if self.options.tokens == 1:
            found = getattr(output, "audio_embeds", None)
            found = getattr(output, "pooler_output", None) if found is None else F.normalize(found, dim=-1)
            if found is not None:
                return found.unsqueeze(1), torch.ones(len(found), 1, dtype=torch.bool, device=found.device)
        tokens = self.tokens.along_time(output.last_hidden_state)
        if self.all and isinstance(self.tokens, FrameGroups):
            return tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return tokens, length_mask(self.tokens.count(data["length"]), tokens.shape[1])

    def _blank_inputs(self, items: dict[str, Tensor], hidden: Tensor) -> dict[str, Tensor]:
        return self.inputs(items) if self.alike else super()._blank_inputs(items, hidden)


def by_length(run: Callable[[dict[str, Tensor]], dict[str, Tensor]], data: dict[str, Tensor]) -> dict[str, Tensor]:
    """What `run` makes of items, those of one `length` at a time and without padding, in the order of the items.

    data: prepared sounds, or what `settle` made of them
    run: the same of the items of a group -> tensors `[items, ...]`; those of more dimensions may differ in the second
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
    return {name: _stacked([part[name] for part in parts]).index_select(0, order) for name in parts[0]}


def _stacked(parts: list[Tensor]) -> Tensor:
    if parts[0].dim() > 1:
        most = max(part.shape[1] for part in parts)
        parts = [F.pad(part, (*[0, 0] * (part.dim() - 2), 0, most - part.shape[1])) for part in parts]
    return torch.cat(parts)
