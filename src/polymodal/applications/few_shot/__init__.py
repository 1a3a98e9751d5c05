"""Few-shot classification: heads that learn from a few labelled rows, on the embeddings of a model that stays."""

from polymodal.applications.few_shot.few_shot import FewShot

__all__ = ["FewShot"]
