"""Connectionist temporal classification (CTC)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from polymodal.core.errors import RecipeError
from polymodal.core.registry import register
from polymodal.core.types import FusionOutput, OutputShape
from polymodal.nn.decoders.base import DecoderOptions
from polymodal.nn.decoders.ctc_prefix_state import LOG_ZERO, CTCPrefixState
from polymodal.nn.decoders.text_decoder import DecodingState, TextDecoder, encoder_memory
from polymodal.nn.encoders.base import Encoder
from polymodal.nn.encoders.windowed import refuse_windows
from polymodal.nn.layers.shared_batch import SharesBatch


class CTCHead(nn.Module, SharesBatch):
    """Log-probabilities of the tokens and the blank in each frame.

    Each token of the fusion output, in order of time, gives `upsampling` frames by a linear layer,

        p_t = softmax(W LN(U x)_t)

    and the probability of a text is the sum over all its alignments (Graves, Fernández, Gomez and Schmidhuber,
    "Connectionist Temporal Classification", 2006): each token covers one or more frames, blanks may occur anywhere
    between tokens, and at least one blank separates two equal tokens. A text needs as many frames as it has tokens and
    equal neighbors; a longer text has no alignment and is not learned. `rows` counts the training rows that were
    learned and those that were too long.
    """

    rows: Tensor

    def __init__(self, width: int, vocabulary: int, upsampling: int) -> None:
        super().__init__()
        self.vocabulary, self.upsampling = vocabulary, upsampling
        self.widen = nn.Linear(width, upsampling * width) if upsampling > 1 else nn.Identity()
        self.norm, self.classifier = nn.LayerNorm(width), nn.Linear(width, vocabulary + 1)
        self.register_buffer("rows", torch.zeros(2, dtype=torch.int64))

    def forward(self, fused: FusionOutput) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[batch, frames, vocabulary + 1]` fp32, blank last, and mask `[batch, frames]`."""
        features, mask = frame_features(fused)
        widened = self.widen(features).view(len(features), -1, features.shape[2])
        return self.classifier(self.norm(widened)).float().log_softmax(-1), mask.repeat_interleave(
            self.upsampling, dim=1
        )

    def nll(self, fused: FusionOutput, answer: Tensor, end: int) -> Tensor:
        """`[batch, 2]`: the negative log-likelihood of each answer in nats, and its number of tokens including the end
        token; zeros in rows with too few frames."""
        log_p, mask = self(fused)
        labels = torch.where(answer == end, -1, answer)
        lengths, frames = (labels >= 0).sum(1), mask.sum(1)
        equal = ((labels[:, 1:] == labels[:, :-1]) & (labels[:, 1:] >= 0)).sum(1)
        labeled = (answer >= 0).any(1)
        fits = labeled & (lengths + equal <= frames)
        if self.training:
            self.rows += self.world.sum(torch.stack([fits.sum(), (labeled & ~fits).sum()]) * self.has_rows)
        nll = log_p.sum() * 0.0 + torch.zeros_like(frames, dtype=torch.float32)
        if bool(fits.any()):
            rows = fits.nonzero().squeeze(1)
            losses = functional.ctc_loss(
                log_p[rows].transpose(0, 1),
                labels[rows].clamp_min(0),
                frames[rows],
                lengths[rows],
                blank=self.vocabulary,
                reduction="none",
            )
            nll = nll.index_add(0, rows, losses)
        return torch.stack([nll, (answer >= 0).sum(1) * fits], dim=1)

    def training_warning(self) -> str | None:
        """A warning about training answers that were too long; None if there were none."""
        learned, lost = self.rows.tolist()
        if not lost:
            return None
        return (
            f"{lost} of {learned + lost} answers have more tokens than frames and were not learned; increase "
            "decoder.upsampling, or use an encoder that keeps more tokens"
        )


@register
class CTC(TextDecoder):
    """Connectionist temporal classification, for texts in the temporal order of an input, e.g. speech transcripts;
    see `CTCHead`. It reads the tokens of `frame_features`. The predictions do not depend on previous tokens or on a
    prompt."""

    class Options(DecoderOptions):
        name: Literal["ctc"] = "ctc"
        upsampling: int = Field(default=1, ge=1, le=16)
        """Number of frames for each token of the inputs; increase it if texts have more tokens than the inputs."""
        decoding: Literal["prefix_search", "best_path"] = "prefix_search"
        """`prefix_search`: the probability of each next token, summed over all alignments. `best_path`: the most likely
        path through the frames, which is faster but does not sum over alignments."""

    tasks: ClassVar[tuple[str, ...]] = ("text_generation",)
    options: Options

    def __init__(self, options: Options, *, width: int, shape: OutputShape) -> None:
        super().__init__(options, width=width, shape=shape)
        if self.text.max_prompt_length:
            raise RecipeError("", "ctc does not support a prompt; remove the prompt, or use the decoder transformer")
        self.search = options.decoding
        self.ctc_head = CTCHead(width, self.text.vocab_size, options.upsampling)

    def attach_encoders(self, encoders: Mapping[str, Encoder]) -> None:
        refuse_windows(encoders, "ctc needs a token for each moment")

    def target_nll(self, fused: FusionOutput, prompt: Tensor, answer: Tensor) -> Tensor:
        return self.ctc_head.nll(fused, answer, self.text.eos_id)

    def init_state(self, fused: FusionOutput, prompt: Tensor, steps: int) -> DecodingState:
        log_p, mask = self.ctc_head(fused)
        state = CTCPrefixState if self.search == "prefix_search" else CTCBestPathState
        return state(log_p, mask, self.text.eos_id)

    def training_warning(self) -> str | None:
        return self.ctc_head.training_warning()


class CTCBestPathState(DecodingState):
    """Best path decoding: the most likely label of each frame, with repeats merged and blanks removed (Graves et al.,
    2006).

    The k-th token is predicted by the most confident frame of its run, independently of previous tokens; the end token
    follows the last. The arguments are those of `CTCPrefixState`.
    """

    def __init__(self, log_p: Tensor, mask: Tensor, end: int) -> None:
        labels = log_p[..., :-1].clone()
        labels[..., end] = LOG_ZERO
        best_labels = torch.cat([labels, log_p[..., -1:]], dim=-1).max(-1)
        blank = labels.shape[2]
        path = torch.where(mask, best_labels.indices, blank)
        new = torch.cat([torch.ones_like(path[:, :1], dtype=torch.bool), path[:, 1:] != path[:, :-1]], dim=1)
        run = new.long().cumsum(1)
        positions = torch.arange(path.shape[1], device=path.device)
        best = torch.full((len(path), path.shape[1] + 1), -torch.inf, device=path.device)
        best = best.scatter_reduce(1, run, best_labels.values, "amax")
        peak = (path != blank) & (best_labels.values == best.gather(1, run))
        peak &= ~_repeated_peak(peak, run)
        order = torch.where(peak, positions, path.shape[1]).sort(1).values
        self.count = peak.sum(1)
        self.frames = order
        self.labels, self.end, self.generated = labels, end, 0
        self.owner = torch.arange(len(path), device=path.device)

    def step(self, tokens: Tensor | None) -> Tensor:
        self.generated += tokens is not None
        done = self.generated >= self.count
        frame = self.frames[:, min(self.generated, self.frames.shape[1] - 1)].clamp_max(self.labels.shape[1] - 1)
        logits = self.labels[self.owner, frame].clone()
        only_end = torch.full_like(logits[:1], LOG_ZERO)
        only_end[0, self.end] = 0.0
        return torch.where(done.unsqueeze(1), only_end, logits)

    def reorder(self, rows: Tensor) -> None:
        for name in ("owner", "count", "frames"):
            setattr(self, name, getattr(self, name).index_select(0, rows))


def _repeated_peak(peak: Tensor, run: Tensor) -> Tensor:
    """Where an earlier frame of the same run is a peak too."""
    before = peak.long().cumsum(1) - peak.long()
    first = torch.zeros_like(run).scatter_reduce(1, run - 1, before, "amin", include_self=False)
    return before > first.gather(1, run - 1)


def frame_features(fused: FusionOutput) -> tuple[Tensor, Tensor]:
    """Features `[batch, length, width]` in order of time, real tokens first, and mask `[batch, length]`.

    They are the tokens of `text_decoder.encoder_memory`: the tokens of an input in order, several inputs one after the
    other. If the fusion gives one vector per row, it is added to each token.
    """
    features, mask = encoder_memory(fused)
    if fused.is_vector:
        features = features + fused.pooled.unsqueeze(1)
    order = torch.argsort((~mask).to(torch.int8), dim=1, stable=True)[:, : int(mask.sum(1).max())]
    return features.gather(1, order.unsqueeze(-1).expand(-1, -1, features.shape[2])), mask.gather(1, order)
