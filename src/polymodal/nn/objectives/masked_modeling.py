"""Masked modeling: reconstruction of masked parts of each item."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from polymodal.core.registry import register
from polymodal.nn.objectives.base import ObjectiveBatch, ObjectiveLoss, own_items
from polymodal.nn.objectives.masking.mask_units import sample_mask
from polymodal.nn.objectives.masking.reconstruction import Reconstruction, ReconstructionOptions


class MaskedModelingOptions(ReconstructionOptions):
    """Options of all masked modeling objectives."""

    mask_ratio: float | None = Field(default=None, gt=0, le=1)
    """Fraction of the parts of an item that is masked. Default: 0.6 for images, 0.75 for video, 0.5 for audio, 0.4 for
    time series, 0.3 for table cells, 0.15 for text."""
    patch_size: int | None = Field(default=None, ge=1)
    """Size of a masked part: side of an image patch in pixels, frames of the spectrogram, or steps of a time series.
    Not used for text and tables. Default: at most an eighth of the image side, 0.16 s of audio, an eighth of the
    longest time series but at most 8 steps."""


@register
class MaskedModeling(Reconstruction):
    """A fraction of the parts of each item is masked and predicted from the rest: patches of images (He et al., "Masked
    Autoencoders Are Scalable Vision Learners", 2022), tubes of video (Tong et al., 2022), segments of audio (Huang et
    al., 2022) and of time series (Nie et al., 2023), tokens of text (Devlin et al., "BERT", 2019), cells of tables.

        L = mean_{p masked} d(D(E(x without masked parts), p), x_p)

    with the encoder E and the decoder D. d is the squared error of numbers (pixels of a patch normalized by itself, the
    log-mel spectrogram, steps, cells) or the cross-entropy of tokens and labels. Each input is predicted only from
    itself, each item once even if several rows share it.
    """

    class Options(MaskedModelingOptions):
        name: Literal["masked_modeling"] = "masked_modeling"

    options: MaskedModelingOptions

    def forward(self, step: ObjectiveBatch) -> list[ObjectiveLoss]:
        terms = []
        for name, units in self.units.items():
            data = step.batch.inputs[name].data
            valid = units.valid_units(data)
            mask = sample_mask(
                valid, units.default_mask_ratio if self.options.mask_ratio is None else self.options.mask_ratio
            )
            if not self.reads_other_inputs:  # else an item is predicted once for each row that has it
                mask &= own_items(step.batch.inputs[name], step.world).unsqueeze(1)
            if not step.world.total(mask.sum()):
                continue
            is_masked = step.world.size == 1 or bool(mask.any())  # of one process, the total is its own
            corrupted = units.apply_mask(data, mask) if is_masked else data
            decoded, item, position = self.decode_masked(step, name, corrupted, mask, valid)
            loss = units.loss(self.heads[name](decoded), data, item, position, step.world)
            terms.append(ObjectiveLoss(name, *loss))
        return terms
