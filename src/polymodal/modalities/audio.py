"""Sounds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL.Image
import torch
from pydantic import Field
from torch import Tensor

from polymodal.core.errors import MissingExtraError, RecipeError
from polymodal.core.options import SizedModel, sized_field
from polymodal.core.registry import register
from polymodal.data.media.audio import AudioRequest, header_of_array, as_samples, audio_from_array
from polymodal.data.media.formats import AUDIO_SUFFIXES, detect_format
from polymodal.data.media.metadata import read_metadata
from polymodal.data.media.source import MediaError
from polymodal.data.table.block import RowBlock
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.modalities import audio_augment, audio_corruption
from polymodal.modalities.base import ModalityOptions
from polymodal.modalities.media import Item, MediaModality, inline_or_path, looks_like, recognised
from polymodal.modalities.previews import spectrogram
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.pretrained.audio_features import audio_feature_extractor
from polymodal.pretrained.resolve import read_checkpoint_config
from polymodal.recipe.data import LimitOptions

#: Sounds whose headers are read to see how long they are.
OPENED = 200
#: Formats that hold sound and nothing else; clips are sounds only where the recipe says so.
_AUDIO_ONLY = ("WAV", "FLAC", "MP3", "AAC", "OGG")


@register
class Audio(MediaModality):
    """Sounds as waveforms of one sample rate.

    A cell is a path below the table's folder, encoded bytes, a `data:` address, a record of `bytes` and `path`, or a
    record of `array` (`[samples]` or `[samples, channels]`) and `sampling_rate`. A clip gives its sound track; a clip
    without one counts as missing, without a fault.

    Prepared: `values [items, samples, channels]` int16 and `length [items]`; shorter sounds are padded with zeros.
    Collated: `values [items, channels, samples]` float32, full scale from -1 to 1, and `length`.

    With a checkpoint, sounds have one channel and the rate of its network, and no more seconds than that can take: of
    a longer sound the part that `keep` says is used, and the rest is never heard. That is 30 s for Whisper, 10.2 s for
    AST, 10 s for CLAP; wav2vec 2.0, HuBERT and WavLM take any length.
    """

    class Options(ModalityOptions, SizedModel):
        name: Literal["audio"] = "audio"
        checkpoint: str | None = None
        """A pretrained checkpoint whose preparation sounds get: a preset, a hub id or a folder. Encoders with a
        checkpoint set it themselves. It decides `sampling_rate` and `channels`, bounds `seconds`, and sounds are given no
        random changes that are not asked for."""
        sampling_rate: int = Field(default=16_000, ge=1_000, le=192_000)
        """Sample rate in Hz that sounds are brought to; what is heard ends at half of it."""
        channels: int = Field(default=1, ge=1, le=2)
        """1: the mean of all channels; 2: stereo is kept, and the mean of any other number is in both."""
        seconds: float | None = Field(default=None, gt=0, le=600)
        """The most seconds of a sound that are used. Silent: what 95 % of a sample do not exceed, at most
        `max_seconds`."""
        max_seconds: float = sized_field(10.0, 30.0, 30.0, gt=0, le=600)
        """Upper bound of the seconds that are chosen while `seconds` is silent."""
        crop: Literal["start", "center"] = "start"
        """Which part of a longer sound is used."""
        trim_silence_db: float | None = Field(default=None, gt=0, le=120)
        """Cut both ends for as long as they are this many dB below the loudest moment (30 to 60 are usual). Silent:
        they stay."""
        normalization: Literal["none", "peak", "rms"] = "none"
        """Bring the peak to -1 dB of full scale, or the root mean square to -20 dB (less where it would clip)."""
        denoise: bool = False
        """Turn down steady noise (spectral gating)."""
        voice_activity_only: bool = False
        """Keep only the stretches with a voice; times are then those of what is left."""
        gain_db: float = Field(default=6.0, ge=0, le=60)
        """In training: make sounds louder or quieter by up to so many dB. 0: never."""
        noise_snr_db: float | None = Field(default=None, ge=-20, le=60)
        """In training: add white noise at a signal-to-noise ratio of this many dB or up to 20 more. Silent: none."""
        time_shift: float = Field(default=0.01, ge=0, le=1)
        """In training: move sounds in time by up to this share of their length; targets in time do not move along. 0:
        never."""

    media = "audio"
    default_encoder = "audio_cnn"
    time_preserving_options = {"time_shift": 0.0, "trim_silence_db": None, "voice_activity_only": False, "crop": "start"}
    corruptions = ("noise", "babble", "reverberation", "clipping", "loss")
    options: Options

    def __init__(self, options: Options, *, columns: list[str]) -> None:
        super().__init__(options, columns=columns)
        self._card: CheckpointConfig | None = None

    @classmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        return recognised(sample, _looks_like_sound, "sound")

    @classmethod
    def resolve(cls, options: Options, samples: list[ColumnSample]) -> Options:
        """Fill `seconds` from the headers of up to 200 sampled sounds; those that tell no length do not count. With a
        checkpoint, what its files say.

        Raises:
            RecipeError: there is no such checkpoint for sounds, or an option is not what its network reads.
        """
        most = options.max_seconds
        if options.checkpoint is not None:
            options, longest = _of_checkpoint(options, options.checkpoint)
            most = min(most, longest)
        if options.seconds is not None:
            return options
        known = [seconds for sample in samples for seconds in _durations(sample)]
        wanted = float(np.percentile(known, 95, method="higher")) if known else most
        rounded = math.ceil(min(wanted, 600) * 100) / 100
        return options.model_copy(update={"seconds": max(0.01, min(rounded, most))})

    @property
    def card(self) -> CheckpointConfig | None:
        """What the checkpoint's files say; read when it is first asked for, or from a model directory."""
        if self._card is None and self.options.checkpoint is not None:
            self._card = _card(self.options.checkpoint)
        return self._card

    def fit(self, blocks: Iterable[RowBlock]) -> None:
        """Sounds have nothing to learn from the training rows."""

    def request(self) -> AudioRequest:
        chosen = self.options
        return AudioRequest(
            sampling_rate=chosen.sampling_rate,
            channels=chosen.channels,
            seconds=chosen.seconds or chosen.max_seconds,
            crop=chosen.crop,
            trim_silence_db=chosen.trim_silence_db,
            normalization=chosen.normalization,
            denoise=chosen.denoise,
            voice_activity_only=chosen.voice_activity_only,
        )

    def from_memory(self, cell: Any, limits: LimitOptions) -> tuple[bytes, Item] | None:
        """Records of an array and its sample rate; an array alone is refused, since nothing tells its rate."""
        if isinstance(cell, np.ndarray):
            raise MediaError("an array needs its sample rate: give a record of `array` and `sampling_rate`")
        if not isinstance(cell, dict) or cell.get("array") is None:
            return None
        samples, rate = as_samples(cell["array"]), cell.get("sampling_rate")
        item = audio_from_array(samples, rate, self.request(), limits)
        return f"{rate} {samples.dtype} {samples.shape} ".encode() + samples.tobytes(), item

    def extra(self) -> None:
        for package in ("av", "soundfile", "soxr"):
            if find_spec(package) is None:
                raise MissingExtraError(package, "audio", "reading sounds")

    def longest(self) -> int:
        return self.request().max_samples

    def collate(self, items: dict[str, np.ndarray]) -> dict[str, Tensor]:
        values = torch.from_numpy(items["values"]).transpose(1, 2)
        scaled = values.to(torch.float32, memory_format=torch.contiguous_format).mul_(1 / 32_768)
        return {"values": scaled, "length": torch.from_numpy(items["length"])}

    @property
    def changes(self) -> bool:
        return bool(self.options.time_shift or self.options.gain_db or self.options.noise_snr_db is not None)

    def augment(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        values, length, chosen = data["values"], data["length"], self.options
        if chosen.time_shift:
            values = audio_augment.time_shift(values, length, chosen.time_shift)
        if chosen.noise_snr_db is not None:
            values = audio_augment.add_noise(values, length, chosen.noise_snr_db)
        if chosen.gain_db:
            values = audio_augment.gain(values, chosen.gain_db)
        return {**data, "values": values}

    def corrupt(
        self, items: dict[str, np.ndarray], kind: str, strength: float, draw: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """noise: white, from 30 dB below the sound to 5 dB above it
        babble: four other sounds at once, at the same ratios
        reverberation: decaying echoes, from a small room to a bare hall
        clipping: turned up by up to 40 dB and cut off at its own peak
        loss: packets of 40 ms fall silent, up to 80 % of them
        """
        if kind not in self.corruptions:
            return super().corrupt(items, kind, strength, draw)
        values, length = items["values"], items["length"]
        sounds = [one[:count].astype(np.float32) / 32_768 for one, count in zip(values, length, strict=True)]
        if kind == "noise":
            sounds = audio_corruption.white_noise(sounds, strength, draw)
        elif kind == "babble":
            sounds = audio_corruption.babble(sounds, strength, draw)
        elif kind == "reverberation":
            sounds = audio_corruption.reverberation(sounds, strength, self.options.sampling_rate, draw)
        elif kind == "clipping":
            sounds = audio_corruption.clipping(sounds, strength)
        else:
            sounds = audio_corruption.loss(sounds, strength, self.options.sampling_rate, draw)
        damaged = np.zeros_like(values)
        for row, one in zip(damaged, sounds, strict=True):
            row[: len(one)] = np.clip(np.rint(one * 32_768), -32_768, 32_767)
        return {**items, "values": damaged}

    def shape(self) -> dict[str, Any]:
        """`rate` in Hz, `channels`, and `samples` of the longest sound there can be; `checkpoint`, its card, where
        there is one."""
        shape = {"rate": self.options.sampling_rate, "channels": self.options.channels, "samples": self.max_samples()}
        return shape if self.card is None else {**shape, "checkpoint": self.card.to_dict()}

    def picture(self, item: dict[str, np.ndarray]) -> PIL.Image.Image:
        return spectrogram(item["values"].mean(axis=1) / 32_768)

    def save(self, folder: Path) -> dict[str, Any]:
        return {"checkpoint": None if self.card is None else self.card.to_dict()}

    def load(self, folder: Path, state: dict[str, Any]) -> None:
        self._card = CheckpointConfig.from_dict(state["checkpoint"]) if state.get("checkpoint") else None

    def show(self) -> str:
        request = self.request()
        kind = {1: "mono", 2: "stereo"}[request.channels]
        said = "" if self.card is None else f", as {self.card.name} wants them"
        return f"sounds of up to {request.seconds:g} s at {request.sampling_rate / 1000:g} kHz, {kind}{said}"


def _card(checkpoint: str) -> CheckpointConfig:
    try:
        return read_checkpoint_config(checkpoint, "audio")
    except RecipeError as error:
        raise error.with_prefix("checkpoint") from None


def _of_checkpoint(options: Audio.Options, checkpoint: str) -> tuple[Audio.Options, float]:
    """The options with what the files of the checkpoint say and without random changes that were not asked for; and the
    most seconds that its network can take."""
    reads = audio_feature_extractor(_card(checkpoint))
    longest = math.inf if reads.max_samples is None else reads.max_samples / reads.sampling_rate
    said = {"sampling_rate": reads.sampling_rate, "channels": 1}
    given = options.model_fields_set
    for name, value in said.items():
        if name in given and getattr(options, name) != value:
            asked = getattr(options, name)
            raise RecipeError(name, f"the checkpoint {checkpoint!r} reads {value}, not {asked}; leave it out")
    if options.seconds is not None and options.seconds > longest:
        raise RecipeError(
            "seconds", f"the checkpoint {checkpoint!r} hears {longest:g} s at most, not {options.seconds:g}"
        )
    still = {name: 0.0 for name in ("gain_db", "time_shift") if name not in given}
    return options.model_copy(update={**said, **still}), longest


def _durations(sample: ColumnSample) -> Iterator[float]:
    """Seconds of sounds, those of files from their headers."""
    files = []
    for cell in sample.values[:: max(1, len(sample.values) // OPENED)]:
        if not isinstance(cell, dict) or cell.get("array") is None:
            files.append(cell)
            continue
        try:
            seconds = header_of_array(as_samples(cell["array"]), cell.get("sampling_rate")).seconds
        except MediaError:  # reported when it is prepared
            continue
        if seconds:
            yield seconds
    for found in read_metadata("audio", files, sample.root, sample.limits):
        if not isinstance(found, MediaError) and found.seconds:
            yield found.seconds


def _looks_like_sound(cell: Any) -> bool:
    if isinstance(cell, dict):
        if cell.get("array") is not None:
            return cell.get("sampling_rate") is not None
        cell = inline_or_path(cell)
    if isinstance(cell, bytes):
        return detect_format(cell) in _AUDIO_ONLY or cell[4:11] == b"ftypM4A"
    return looks_like("audio", cell, AUDIO_SUFFIXES)
