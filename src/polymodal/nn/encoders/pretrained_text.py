"""The encoder of texts with a pretrained checkpoint."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.pretrained import PretrainedEncoder, PretrainedOptions
from polymodal.nn.encoders.text_pooling import TextPooling

#: Text towers that were trained on texts padded to the maximum length, without an attention mask.
FULL_LENGTH_MODELS = {"siglip", "siglip2", "siglip_text_model", "siglip2_text_model"}
#: Networks whose `pooler_output` is their trained text embedding.
POOLED_OUTPUT_MODELS = {*FULL_LENGTH_MODELS, "clip_text_model"}


@register
class PretrainedText(PretrainedEncoder):
    """A pretrained text network: BERT-like models, sentence encoders, the encoder of T5 or BART, causal language
    models, or the text tower of image-text and audio-text models.

    The pooled output (`max_tokens: 1`) is the first of these that applies:

    - a tower with a projection (CLIP, CLAP): the projected embedding, in the common space with images or audio; SigLIP:
      the output of its head
    - a sentence encoder: the pooling in `1_Pooling/config.json`, then `x / ||x||` if `modules.json` has Normalize
      (Reimers & Gurevych, "Sentence-BERT", 2019); a Dense module after it is left out
    - a causal language model: the last token, the only one that attends to the whole text
    - otherwise the mean of the tokens, which is more informative than an untrained first token (same paper, table 6)

    Padding is masked, as in the reference. Only SigLIP reads texts padded to the maximum length without a mask, as in
    its training (Zhai et al., "Sigmoid Loss for Language Image Pre-Training", 2023).
    """

    class Options(PretrainedOptions):
        name: Literal["pretrained_text"] = "pretrained_text"

    modality: ClassVar[str] = "text"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.pad_token_id: int = shape["padding"]
        self.longest: int = shape["length"]
        config = self.backbone.model.config
        self.padded_length: int | None = (
            config.max_position_embeddings if config.model_type in FULL_LENGTH_MODELS else None
        )
        self.uses_pooler_output = config.model_type in POOLED_OUTPUT_MODELS
        self.projection = getattr(self.backbone.model, "projection", None)
        self.pooling = TextPooling.from_checkpoint(self.checkpoint)
        if options.max_tokens == 1:
            self.width = self._pooled_width()

    def prepare_inputs(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """`input_ids` and (except for SigLIP) `attention_mask`, `[items, length]`, from `values` and `length`."""
        mask = length_mask(data["length"], data["values"].shape[1])
        ids = data["values"].long().masked_fill(~mask, self.pad_token_id)
        if self.padded_length is not None:
            return {"input_ids": functional.pad(ids, (0, self.padded_length - ids.shape[1]), value=self.pad_token_id)}
        return {"input_ids": ids, "attention_mask": mask.long()}

    def item_bytes(self, length: int | None = None) -> float:
        """The attention scores of all heads, in fp32."""
        heads = getattr(self.backbone.model.config, "num_attention_heads", None)
        steps = self.padded_length or length or self.longest
        return 0.0 if heads is None else 4.0 * heads * steps**2

    def extract_tokens(self, output: Any, inputs: dict[str, Tensor], data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        if self.options.max_tokens == 1:
            summary = self._pooled(output, data)[:, None]
            return summary, torch.ones(summary.shape[:2], dtype=torch.bool, device=summary.device)
        longest = data["values"].shape[1]
        return output.last_hidden_state[:, :longest], length_mask(data["length"], longest)

    def _pooled(self, output: Any, data: dict[str, Tensor]) -> Tensor:
        if self.projection is not None:
            embedding: Tensor = output["text_embeds"]
            return (
                functional.normalize(embedding, dim=-1) if self.checkpoint.config["model_type"] == "clap" else embedding
            )
        if self.uses_pooler_output:
            pooled: Tensor = output.pooler_output
            return pooled
        return self.pooling(output.last_hidden_state, length_mask(data["length"], data["values"].shape[1]))

    def _pooled_width(self) -> int:
        if self.projection is not None:
            return int(self.projection(torch.zeros(1, self.backbone.width)).shape[1])
        if self.uses_pooler_output:
            return int(getattr(self.backbone.model.config, "projection_size", None) or self.backbone.width)
        return self.backbone.width * len(self.pooling.modes)
