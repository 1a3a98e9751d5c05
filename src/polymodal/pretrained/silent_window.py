"""Whisper's encoder on audio that is shorter than its window: few tokens stand for the silence after the audio."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from polymodal.pretrained.shape_trace import first_tensor

#: Least number of tokens (of 20 ms) of silence that are encoded one by one after the audio. The number of tokens that
#: are encoded one by one is a multiple of it, so that items of about equal length run together.
DENSE_SILENCE = 25
#: Number of tokens for which one token stands in the silence after these.
RUN = 32


def num_dense_tokens(audio_tokens: Tensor, window: int) -> Tensor:
    """The number of tokens of each item that are encoded one by one, `[items]`: those of the audio and of some silence.

    audio_tokens: tokens that overlap the audio, `[items]`
    window: the tokens of a whole window

    Example:
        >>> num_dense_tokens(torch.tensor([50, 51, 1490]), 1500).tolist()
        [75, 100, 1500]
    """
    padded = audio_tokens + DENSE_SILENCE
    return ((padded + DENSE_SILENCE - 1) // DENSE_SILENCE * DENSE_SILENCE).clamp_max(window)


def encode_with_condensed_silence(encoder: Any, features: Tensor, dense: int) -> Tensor:
    """The first `dense` tokens of the output of Whisper's encoder, `[items, dense, width]`, nearly as it gives them.

    The frames after the audio are equal, so their tokens differ in position only. Therefore the token in the middle of
    each run of `RUN` tokens stands for the n tokens of the run: attention weights it n times,

        softmax(q k / sqrt d + log n)

    The cost of a layer grows with `dense + (window - dense) / RUN` tokens instead of all of the window.

    encoder: the encoder of a Whisper model of transformers
    features: the spectrogram of a whole window, `[items, mels, frames]`, silent from token `dense - DENSE_SILENCE` on
    """
    window = encoder.embed_positions.num_embeddings
    if dense >= window:
        return first_tensor(encoder(features))
    start = torch.arange(dense, window, RUN, device=features.device)
    size = (window - start).clamp_max(RUN)
    positions = torch.cat([torch.arange(dense, device=features.device), start + size // 2])
    # Token t reads frames up to 2 t + 2; the token after the dense ones is silent, as are all after it.
    hidden = functional.gelu(encoder.conv1(features[:, :, : 2 * dense + 4]))
    hidden = functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
    silent = hidden[:, dense : dense + 1].expand(-1, len(start), -1)
    hidden = torch.cat([hidden[:, :dense], silent], dim=1) + encoder.embed_positions(positions)
    weight = torch.cat([size.new_ones(dense), size]).to(hidden.dtype).log()
    bias = weight.expand(1, 1, len(positions), -1)  # [1, 1, queries, keys]
    for layer in encoder.layers:
        hidden = first_tensor(layer(hidden, bias))
    normalized: Tensor = encoder.layer_norm(hidden[:, :dense])
    return normalized
