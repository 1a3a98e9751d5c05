"""Few-shot and zero-shot classification: heads on the frozen embeddings of a model."""

from polymodal.applications.few_shot.few_shot import FewShot

__all__ = ["FewShot"]
