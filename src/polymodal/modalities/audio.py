"""The `audio` modality: waveforms of one sampling rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import PIL.Image
import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import TypedDict

from polymodal.core.errors import MissingExtraError, RecipeError
from polymodal.core.formatting import count_noun
from polymodal.core.needs import needs_bound
from polymodal.core.options import SizedModel, sized_field
from polymodal.core.registry import register
from polymodal.data.media.audio import AudioRequest, as_samples, audio_from_array, header_of_array
from polymodal.data.media.formats import AUDIO_SUFFIXES, detect_format
from polymodal.data.media.metadata import read_metadata
from polymodal.data.media.source import MediaError
from polymodal.data.store.items import PreparedInput
from polymodal.data.table.block import RowBlock
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.modalities import audio_augment, audio_corruption
from polymodal.modalities.base import ModalityOptions
from polymodal.modalities.intended_media import inline_or_path, looks_like, match_media
from polymodal.modalities.media import Item, MediaModality
from polymodal.modalities.previews import spectrogram_image
from polymodal.pretrained.audio_features import audio_feature_extractor
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.pretrained.resolve import read_checkpoint_config
from polymodal.recipe.data import LimitOptions

#: Number of files whose headers are read for their duration.
MAX_SAMPLED_FILES = 200
#: Formats that only have audio. Videos are audio inputs only if the recipe sets this modality.
_AUDIO_ONLY = ("WAV", "FLAC", "MP3", "AAC", "OGG")


_BOUND = needs_bound("seconds", "max_seconds")


class AudioState(TypedDict):
    """The saved state: the configuration of the checkpoint."""

    checkpoint: CheckpointConfig | None


@register
class Audio(MediaModality):
    """Audio as waveforms of one sampling rate.

    A cell is a path below the table's folder, encoded bytes, a `data:` address, a record of `bytes` and `path`, or a
    record of `array` (`[samples]` or `[samples, channels]`) and `sampling_rate`. The audio track of a video is used. A
    video without audio counts as missing, without a cell error.

    Prepared: `values [items, samples, channels]` int16 and `length [items]`; shorter audio is padded with zeros.
    Collated: `values [items, channels, samples]` float32, full scale from -1 to 1, and `length`.

    With a checkpoint, audio has one channel, the sampling rate of its network, and at most the duration that the
    network accepts. Longer audio is cropped as set by `crop`. The limit is 30 s for Whisper, 10.2 s for AST and 10 s
    for CLAP; wav2vec 2.0, HuBERT and WavLM accept any length.
    """

    class Options(ModalityOptions, SizedModel):
        name: Literal["audio"] = "audio"
        checkpoint: str | None = None
        """Preprocess audio for this pretrained checkpoint: a preset, a hub id or a folder. Encoders with a
        checkpoint set it themselves. It sets `sampling_rate` and `channels`, limits `seconds`, and disables
        augmentation by default."""
        sampling_rate: int = Field(default=16_000, ge=1_000, le=192_000)
        """Target sampling rate in Hz. Frequencies up to half of it are kept."""
        channels: int = Field(default=1, ge=1, le=2)
        """1: the mean of all channels; 2: stereo is kept, and audio with another number of channels has their mean
        in both."""
        seconds: float | None = Field(default=None, gt=0, le=600)
        """Maximum duration in seconds; of each window if `max_windows` is more than 1. Default: the 95th percentile of
        a sample, at most `max_seconds`."""
        max_seconds: Annotated[float, _BOUND] = sized_field(10.0, 30.0, 30.0, gt=0, le=600)
        """Upper bound of the default of `seconds`."""
        max_windows: int = Field(default=1, ge=1, le=1_000)
        """Maximum number of windows. Audio of more than `seconds` is encoded in consecutive windows of at most
        `seconds`, and averaged over them."""
        crop: Literal["start", "center"] = "start"
        """The part of audio that is used if it is longer than `seconds` (than all `max_windows` windows together)."""
        trim_silence_db: float | None = Field(default=None, gt=0, le=120)
        """Trim both ends that are this many dB below the loudest moment (30 to 60 are usual). Default: no trimming."""
        normalization: Literal["none", "peak", "rms"] = "none"
        """Bring the peak to -1 dB of full scale, or the root mean square to -20 dB (less if it would clip)."""
        denoise: bool = False
        """Reduce steady noise (spectral gating)."""
        voice_activity_only: bool = False
        """Keep only segments with speech. Times then refer to the shortened audio."""
        gain_db: float = Field(default=6.0, ge=0, le=60)
        """Augmentation: change the volume by up to this many dB. 0: off."""
        noise_snr_db: float | None = Field(default=None, ge=-20, le=60)
        """Augmentation: add white noise at a signal-to-noise ratio of this many dB or up to 20 dB more. Default: no
        noise."""
        time_shift: float = Field(default=0.01, ge=0, le=1)
        """Augmentation: shift audio in time by up to this fraction of its length. Event targets are not shifted. 0:
        off."""

        @property
        def has_augmentation(self) -> bool:
            return bool(self.time_shift or self.gain_db or self.noise_snr_db is not None)

    media = "audio"
    default_encoder = "audio_cnn"
    time_preserving_options = {
        "time_shift": 0.0,
        "trim_silence_db": None,
        "voice_activity_only": False,
        "crop": "start",
        "max_windows": 1,
    }
    corruptions = ("noise", "babble", "reverberation", "clipping", "loss")
    options: Options

    def __init__(self, options: Options, *, columns: list[str]) -> None:
        super().__init__(options, columns=columns)
        self._card: CheckpointConfig | None = None

    @classmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        return match_media(sample, "audio", _looks_like_audio, "audio")

    @classmethod
    def resolve(cls, options: Options, samples: list[ColumnSample]) -> Options:
        """Fill `seconds` from the headers of up to 200 sampled files. Files of unknown duration are ignored. With a
        checkpoint, fill the values in its files.

        Raises:
            RecipeError: there is no such checkpoint for audio, or an option contradicts its network.
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
        """The configuration of the checkpoint, read on first use, or loaded from a model directory."""
        if self._card is None and self.options.checkpoint is not None:
            self._card = _card(self.options.checkpoint)
        return self._card

    def fit(self, blocks: Iterable[RowBlock]) -> None:
        """Do nothing: audio has no fitted state."""

    @property
    def window_samples(self) -> int:
        """Maximum number of samples of a window."""
        return max(1, round((self.options.seconds or self.options.max_seconds) * self.options.sampling_rate))

    def request(self) -> AudioRequest:
        chosen, rate = self.options, self.options.sampling_rate
        seconds = chosen.seconds or chosen.max_seconds
        return AudioRequest(
            sampling_rate=rate,
            channels=chosen.channels,
            seconds=seconds if chosen.max_windows == 1 else self.window_samples * chosen.max_windows / rate,
            crop=chosen.crop,
            trim_silence_db=chosen.trim_silence_db,
            normalization=chosen.normalization,
            denoise=chosen.denoise,
            voice_activity_only=chosen.voice_activity_only,
        )

    def from_memory(self, cell: Any, limits: LimitOptions) -> tuple[bytes, Item] | None:
        """Convert records of an array and its sampling rate. An array without a rate is refused."""
        if isinstance(cell, np.ndarray):
            raise MediaError("an array needs its sampling rate: use a record of `array` and `sampling_rate`")
        if not isinstance(cell, dict) or cell.get("array") is None:
            return None
        samples, rate = as_samples(cell["array"]), cell.get("sampling_rate")
        item = audio_from_array(samples, rate, self.request(), limits)
        return f"{rate} {samples.dtype} {samples.shape} ".encode() + samples.tobytes(), item

    def check_packages(self) -> None:
        for package in ("av", "soundfile", "soxr"):
            if find_spec(package) is None:
                raise MissingExtraError(package, "audio", "reading audio")

    def max_records(self) -> int:
        return self.request().max_samples

    def is_cell(self, value: Any) -> bool | None:
        return isinstance(value, dict) or super().is_cell(value)

    def collate(self, items: dict[str, np.ndarray]) -> dict[str, Tensor]:
        values = torch.from_numpy(items["values"]).transpose(1, 2)
        scaled = values.to(torch.float32, memory_format=torch.contiguous_format).mul_(1 / 32_768)
        return {"values": scaled, "length": torch.from_numpy(items["length"])}

    def augment(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        values, length, chosen = data["values"], data["length"], self.options
        if chosen.time_shift:
            values = audio_augment.time_shift(values, length, chosen.time_shift)
        if chosen.noise_snr_db is not None:
            values = audio_augment.add_noise(values, length, chosen.noise_snr_db)
        if chosen.gain_db:
            values = audio_augment.random_gain(values, chosen.gain_db)
        return {**data, "values": values}

    def corrupt(
        self, items: dict[str, np.ndarray], kind: str, strength: float, draw: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """noise: white noise, from 30 dB below the signal to 5 dB above it
        babble: four other recordings at once, at the same ratios
        reverberation: decaying echoes, from a small room to a bare hall
        clipping: amplified by up to 40 dB and clipped at its own peak
        loss: packets of 40 ms are zeroed, up to 80 % of them
        """
        if kind not in self.corruptions:
            return super().corrupt(items, kind, strength, draw)
        values, length = items["values"], items["length"]
        signals = [one[:count].astype(np.float32) / 32_768 for one, count in zip(values, length, strict=True)]
        if kind == "noise":
            signals = audio_corruption.white_noise(signals, strength, draw)
        elif kind == "babble":
            signals = audio_corruption.babble(signals, strength, draw)
        elif kind == "reverberation":
            signals = audio_corruption.reverberation(signals, strength, self.options.sampling_rate, draw)
        elif kind == "clipping":
            signals = audio_corruption.hard_clipping(signals, strength)
        else:
            signals = audio_corruption.packet_loss(signals, strength, self.options.sampling_rate, draw)
        corrupted = np.zeros_like(values)
        for row, one in zip(corrupted, signals, strict=True):
            row[: len(one)] = np.clip(np.rint(one * 32_768), -32_768, 32_767)
        return {**items, "values": corrupted}

    def shape(self) -> dict[str, Any]:
        """`rate` in Hz, `channels`, and `samples`, the maximum length of a window; `windows`, the maximum number of
        windows, if there can be several; `checkpoint`, its configuration, if there is one."""
        chosen = self.options
        shape = {"rate": chosen.sampling_rate, "channels": chosen.channels, "samples": self.window_samples}
        shape = self.windowed_shape(shape)
        return shape if self.card is None else {**shape, "checkpoint": self.card.to_dict()}

    def shortened(self, prepared: PreparedInput) -> str:
        lengths = prepared.items.lengths()
        count = 0 if lengths is None else int((lengths >= self.max_records()).sum())
        kept = "center" if self.options.crop == "center" else "start"
        limit = (
            f"{self.request().seconds:g} s or longer: only the {kept} is used, up to this limit (seconds, max_windows)"
        )
        return f"{count:,} of {count_noun(len(prepared.items), 'sound')} are {limit}" if count else ""

    def preview(self, item: dict[str, np.ndarray]) -> PIL.Image.Image:
        return spectrogram_image(item["values"].mean(axis=1) / 32_768)

    state_type = AudioState

    def save(self, folder: Path) -> dict[str, Any]:
        return {"checkpoint": None if self.card is None else self.card.to_dict()}

    def load(self, folder: Path, state: dict[str, Any]) -> None:
        self._card = CheckpointConfig.from_dict(state["checkpoint"]) if state.get("checkpoint") else None

    def describe(self) -> str:
        request = self.request()
        kind = {1: "mono", 2: "stereo"}[request.channels]
        note = "" if self.card is None else f", as required by {self.card.name}"
        most = f"{request.seconds:g} s{self.describe_windows()}"
        return f"audio of up to {most} at {request.sampling_rate / 1000:g} kHz, {kind}{note}"


def _card(checkpoint: str) -> CheckpointConfig:
    try:
        return read_checkpoint_config(checkpoint, "audio")
    except RecipeError as error:
        raise error.with_prefix("checkpoint") from None


def _of_checkpoint(options: Audio.Options, checkpoint: str) -> tuple[Audio.Options, float]:
    """The options with the values in the checkpoint's files and without augmentation that is not set explicitly; and
    the maximum duration in seconds of its network."""
    extractor = audio_feature_extractor(_card(checkpoint))
    longest = math.inf if extractor.max_samples is None else extractor.max_samples / extractor.sampling_rate
    required = {"sampling_rate": extractor.sampling_rate, "channels": 1}
    given = options.model_fields_set
    for name, value in required.items():
        if name in given and getattr(options, name) != value:
            asked = getattr(options, name)
            raise RecipeError(name, f"the checkpoint {checkpoint!r} requires {value}, not {asked}; remove this option")
    if options.seconds is not None and options.seconds > longest:
        raise RecipeError(
            "seconds", f"the checkpoint {checkpoint!r} accepts at most {longest:g} s, not {options.seconds:g}"
        )
    augmentation = {name: 0.0 for name in ("gain_db", "time_shift") if name not in given}
    return options.model_copy(update={**required, **augmentation}), longest


def _durations(sample: ColumnSample) -> Iterator[float]:
    """Durations in seconds, for files from their headers."""
    files = []
    for cell in sample.values[:: max(1, len(sample.values) // MAX_SAMPLED_FILES)]:
        if not isinstance(cell, dict) or cell.get("array") is None:
            files.append(cell)
            continue
        try:
            seconds = header_of_array(as_samples(cell["array"]), cell.get("sampling_rate")).seconds
        except MediaError:  # reported by `prepare`
            continue
        if seconds:
            yield seconds
    for header in read_metadata("audio", files, sample.root, sample.limits):
        if not isinstance(header, MediaError) and header.seconds:
            yield header.seconds


def _looks_like_audio(cell: Any) -> bool:
    if isinstance(cell, dict):
        if cell.get("array") is not None:
            return cell.get("sampling_rate") is not None
        cell = inline_or_path(cell)
    if isinstance(cell, bytes):
        return detect_format(cell) in _AUDIO_ONLY or cell[4:11] == b"ftypM4A"
    return looks_like("audio", cell, AUDIO_SUFFIXES)
