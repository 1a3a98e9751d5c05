"""Text networks with a pretrained checkpoint."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.pretrained import PretrainedEncoder, PretrainedOptions
from polymodal.nn.encoders.text_summary import Pooling

#: Text towers that were trained on texts padded to their last position, with padding that is looked at.
FILLED = {"siglip", "siglip2", "siglip_text_model", "siglip2_text_model"}
#: Networks whose `pooler_output` is the summary that they were trained to give.
OWN_SUMMARY = {*FILLED, "clip_text_model"}


@register
class PretrainedText(PretrainedEncoder):
    """A text network as its checkpoint has it: BERT and its kin, sentence encoders, the encoder of T5 or BART, decoder
    language models, the text tower of image-text and sound-text models.

    Its summary of a text is, in this order,

    - of a tower with a projection (CLIP, CLAP): the projected embedding, which lies in the space of the images' or
      sounds'; of SigLIP: that of its head
    - of a sentence encoder: the pooling that `1_Pooling/config.json` names, then `x / ||x||` where `modules.json` has
      Normalize (Reimers & Gurevych, "Sentence-BERT", 2019); a Dense module behind it is left out
    - of a decoder language model: the last token, the only one that has seen the whole text
    - else the mean of the tokens, which carries more than the first one where nothing was trained on that (the same,
      table 6)

    Padding is masked, as the reference does. SigLIP alone reads texts filled up to its last position, without a mask,
    since it was trained so (Zhai et al., "Sigmoid Loss for Language Image Pre-Training", 2023).
    """

    class Options(PretrainedOptions):
        name: Literal["pretrained_text"] = "pretrained_text"

    modality: ClassVar[str] = "text"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.padding: int = shape["padding"]
        config = self.backbone.model.config
        self.fill: int | None = config.max_position_embeddings if config.model_type in FILLED else None
        self.own_summary = config.model_type in OWN_SUMMARY
        self.projection = getattr(self.backbone.model, "projection", None)
        self.pooling = Pooling.of(self.card)
        if options.tokens == 1:
            self.width = self._summary_width()

    def inputs(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """`input_ids` and, but for SigLIP, `attention_mask`, `[items, length]`, of `values` and `length`."""
        mask = length_mask(data["length"], data["values"].shape[1])
        ids = data["values"].long().masked_fill(~mask, self.padding)
        if self.fill is not None:
            return {"input_ids": functional.pad(ids, (0, self.fill - ids.shape[1]), value=self.padding)}
        return {"input_ids": ids, "attention_mask": mask.long()}

    def read(self, output: Any, inputs: dict[str, Tensor], data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        if self.options.tokens == 1:
            summary = self._summary(output, data)[:, None]
            return summary, torch.ones(summary.shape[:2], dtype=torch.bool, device=summary.device)
        longest = data["values"].shape[1]
        return output.last_hidden_state[:, :longest], length_mask(data["length"], longest)

    def _summary(self, output: Any, data: dict[str, Tensor]) -> Tensor:
        if self.projection is not None:
            embedding: Tensor = output["text_embeds"]
            return functional.normalize(embedding, dim=-1) if self.card.config["model_type"] == "clap" else embedding
        if self.own_summary:
            pooled: Tensor = output.pooler_output
            return pooled
        return self.pooling(output.last_hidden_state, length_mask(data["length"], data["values"].shape[1]))

    def _summary_width(self) -> int:
        if self.projection is not None:
            return int(self.projection(torch.zeros(1, self.backbone.width)).shape[1])
        if self.own_summary:
            return int(getattr(self.backbone.model.config, "projection_size", None) or self.backbone.width)
        return self.backbone.width * len(self.pooling.modes)
