"""The decoder of what is said in the order of time: connectionist temporal classification."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from polymodal.core.errors import RecipeError
from polymodal.core.registry import register
from polymodal.core.types import OutputShape, FusionOutput
from polymodal.nn.decoders.base import DecoderOptions
from polymodal.nn.decoders.ctc_prefix_state import NOTHING, CTCPrefixState
from polymodal.nn.decoders.text_decoder import DecodingState, TextDecoder, memory


class CTCHead(nn.Module):
    """What each frame of a view says: one of the tokens, or nothing (blank).

    Each token of the view, in the order of time, gives `upsampling` frames by a linear layer,

        p_t = softmax(W LN(U x)_t)

    and a text has the probability of all ways to say it (Graves, Fernández, Gomez and Schmidhuber, "Connectionist
    Temporal Classification", 2006): a token over one frame or several, blanks anywhere between, and one at least
    between two equal tokens. So a text needs as many frames as it has tokens and equal neighbours; a longer one cannot
    be said, and is not learned. `rows` counts those that were learned in training and those that could not be.
    """

    rows: Tensor

    def __init__(self, width: int, vocabulary: int, upsampling: int) -> None:
        super().__init__()
        self.vocabulary, self.upsampling = vocabulary, upsampling
        self.widen = nn.Linear(width, upsampling * width) if upsampling > 1 else nn.Identity()
        self.norm, self.decide = nn.LayerNorm(width), nn.Linear(width, vocabulary + 1)
        self.register_buffer("rows", torch.zeros(2, dtype=torch.int64))

    def forward(self, view: FusionOutput) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[batch, frames, vocabulary + 1]` fp32, the blank last, and mask `[batch, frames]`."""
        features, mask = frame_features(view)
        widened = self.widen(features).view(len(features), -1, features.shape[2])
        return self.decide(self.norm(widened)).float().log_softmax(-1), mask.repeat_interleave(self.upsampling, dim=1)

    def losses(self, view: FusionOutput, answer: Tensor, end: int) -> Tensor:
        """`[batch, 2]`: the negative log-likelihood of each answer in nats, and its tokens with its end; zeros in a row
        whose frames are too few."""
        log_p, mask = self(view)
        labels = torch.where(answer == end, -1, answer)
        lengths, frames = (labels >= 0).sum(1), mask.sum(1)
        equal = ((labels[:, 1:] == labels[:, :-1]) & (labels[:, 1:] >= 0)).sum(1)
        given = (answer >= 0).any(1)
        fits = given & (lengths + equal <= frames)
        if self.training:
            self.rows += torch.stack([fits.sum(), (given & ~fits).sum()])
        found = log_p.sum() * 0.0 + torch.zeros_like(frames, dtype=torch.float32)
        if bool(fits.any()):
            at = fits.nonzero().squeeze(1)
            nats = functional.ctc_loss(
                log_p[at].transpose(0, 1),
                labels[at].clamp_min(0),
                frames[at],
                lengths[at],
                blank=self.vocabulary,
                reduction="none",
            )
            found = found.index_add(0, at, nats)
        return torch.stack([found, (answer >= 0).sum(1) * fits], dim=1)

    def notice(self) -> str | None:
        """What to tell of rows that could not be learned; None if there were none."""
        learned, lost = self.rows.tolist()
        if not lost:
            return None
        return (
            f"{lost} of {learned + lost} answers were longer than the frames that are to say them, and were not "
            "learned: set a higher decoder.upsampling, or an encoder that keeps more tokens"
        )


@register
class CTC(TextDecoder):
    """Connectionist temporal classification, for texts in the order in which an input says them, as speech does: see
    `CTCHead`. The tokens that are read are those of `frame_features`. It has no eyes for its own words, nor for a prompt.
    """

    class Options(DecoderOptions):
        name: Literal["ctc"] = "ctc"
        upsampling: int = Field(default=1, ge=1, le=16)
        """Frames for each token of the inputs; more where texts are longer than what they are read from."""
        search: Literal["prefix", "path"] = "prefix"
        """`prefix`: the probability of each next token, over all ways to say the text. `path`: what the likeliest path
        through the frames says, which is faster and sums over nothing."""

    options: Options

    def __init__(self, options: Options, *, width: int, shape: OutputShape) -> None:
        super().__init__(options, width=width, shape=shape)
        if self.text.prompt:
            raise RecipeError("", "ctc reads no prompt; leave the prompt out, or take transformer")
        self.search = options.search
        self.frames = CTCHead(width, self.text.vocabulary, options.upsampling)

    def losses(self, view: FusionOutput, prompt: Tensor, answer: Tensor) -> Tensor:
        return self.frames.losses(view, answer, self.text.end)

    def begin(self, view: FusionOutput, prompt: Tensor, steps: int) -> DecodingState:
        log_p, mask = self.frames(view)
        draft = CTCPrefixState if self.search == "prefix" else CTCBestPathState
        return draft(log_p, mask, self.text.end)

    def notice(self) -> str | None:
        return self.frames.notice()


class CTCBestPathState(DecodingState):
    """What the likeliest path says: the likeliest of each frame, equal neighbours once, without blanks (best path
    decoding, Graves et al., 2006).

    The k-th token is decided by the frame of its run that is surest of it, whatever was written before; behind the last
    comes the end. Arguments are those of `CTCPrefixState`.
    """

    def __init__(self, log_p: Tensor, mask: Tensor, end: int) -> None:
        labels = log_p[..., :-1].clone()
        labels[..., end] = NOTHING
        surest = torch.cat([labels, log_p[..., -1:]], dim=-1).max(-1)
        blank = labels.shape[2]
        said = torch.where(mask, surest.indices, blank)
        new = torch.cat([torch.ones_like(said[:, :1], dtype=torch.bool), said[:, 1:] != said[:, :-1]], dim=1)
        run = new.long().cumsum(1)
        places = torch.arange(said.shape[1], device=said.device)
        best = torch.full((len(said), said.shape[1] + 1), -torch.inf, device=said.device)
        best = best.scatter_reduce(1, run, surest.values, "amax")
        peak = (said != blank) & (surest.values == best.gather(1, run))
        peak &= ~_seen_before(peak, run)
        order = torch.where(peak, places, said.shape[1]).sort(1).values
        self.count = peak.sum(1)
        self.frames = order
        self.labels, self.end, self.written = labels, end, 0
        self.owner = torch.arange(len(said), device=said.device)

    def step(self, tokens: Tensor | None) -> Tensor:
        self.written += tokens is not None
        done = self.written >= self.count
        place = self.frames[:, min(self.written, self.frames.shape[1] - 1)].clamp_max(self.labels.shape[1] - 1)
        logits = self.labels[self.owner, place].clone()
        only_end = torch.full_like(logits[:1], NOTHING)
        only_end[0, self.end] = 0.0
        return torch.where(done.unsqueeze(1), only_end, logits)

    def select(self, rows: Tensor) -> None:
        for name in ("owner", "count", "frames"):
            setattr(self, name, getattr(self, name).index_select(0, rows))


def _seen_before(peak: Tensor, run: Tensor) -> Tensor:
    """Where an earlier frame of the same run is a peak too."""
    before = peak.long().cumsum(1) - peak.long()
    first = torch.zeros_like(run).scatter_reduce(1, run - 1, before, "amin", include_self=False)
    return before > first.gather(1, run - 1)


def frame_features(view: FusionOutput) -> tuple[Tensor, Tensor]:
    """What is said moment by moment: features `[batch, length, width]`, real ones first, and mask `[batch, length]`.

    What every writer attends to, see `writer.memory`: the tokens of an input in their order, those of several inputs
    one input after the other. Where the fusion made one vector of them, it is added to each.
    """
    features, mask = memory(view)
    if view.is_vector:
        features = features + view.pooled.unsqueeze(1)
    order = torch.argsort((~mask).to(torch.int8), dim=1, stable=True)[:, : int(mask.sum(1).max())]
    return features.gather(1, order.unsqueeze(-1).expand(-1, -1, features.shape[2])), mask.gather(1, order)
