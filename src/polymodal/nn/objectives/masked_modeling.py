"""Masked reconstruction."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from polymodal.core.registry import register
from polymodal.nn.objectives.base import ObjectiveBatch, ObjectiveLoss
from polymodal.nn.objectives.masking.mask_units import draw
from polymodal.nn.objectives.masking.reconstruction import Reconstruction, ReconstructionOptions


class MaskedModelingOptions(ReconstructionOptions):
    """Options of every masked objective."""

    share: float | None = Field(default=None, gt=0, le=1)
    """Share of an item's parts that is hidden. Silent: .6 of images, .75 of clips, .5 of sounds, .4 of series, .3 of
    the cells of tables, .15 of texts."""
    patch: int | None = Field(default=None, ge=1)
    """Size of a part: the side of a patch in pixels, frames of a spectrogram, steps of a series. Texts and tables have
    none. Silent: an eighth of the side or less, 0.16 s, an eighth of the longest series and 8 steps at most."""


@register
class MaskedModeling(Reconstruction):
    """A share of the parts of each item is hidden, and told from the rest: patches of images (He et al., "Masked
    Autoencoders Are Scalable Vision Learners", 2022), tubes of clips (Tong et al., 2022), valid_segments of sounds (Huang et
    al., 2022) and of series (Nie et al., 2023), symbols of texts (Devlin et al., "BERT", 2019), cells of tables.

        L = mean_{p hidden} d(D(E(x without hidden parts), p), x_p)

    with the encoder E, the decoder D and, as d, the squared error of numbers (pixels of a patch normalised by itself,
    the log-mel spectrogram, steps, cells) or the cross-entropy of symbols and labels. Each input is told from itself
    alone, each item once however many rows share it.
    """

    class Options(MaskedModelingOptions):
        name: Literal["masked"] = "masked"

    options: MaskedModelingOptions

    def forward(self, step: ObjectiveBatch) -> list[ObjectiveLoss]:
        terms = []
        for name, parts in self.parts.items():
            data = step.batch.inputs[name].data
            real = parts.real(data)
            hidden = draw(real, parts.share if self.options.share is None else self.options.share)
            if not bool(hidden.any()):
                continue
            told, item, place = self.tell(step, name, parts.hide(data, hidden), hidden, real)
            found = parts.compare(self.heads[name](told), data, item, place)
            terms.append(ObjectiveLoss(name, *found))
        return terms
