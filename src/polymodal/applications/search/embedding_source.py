"""The model that computed the vectors of an index, and the inputs whose embeddings can be compared with them."""

from __future__ import annotations

from pathlib import Path

from polymodal.applications.search.manifest import MANIFEST_FILE, EmbeddingSource
from polymodal.checkpoint.model_directory import file_sha256
from polymodal.core.errors import ArtifactError, RecipeError, did_you_mean
from polymodal.model.model import Model
from polymodal.nn.decoders.embed import Embed


def make_source(folder: Path | str, model: Model, input: str | None, dim: int | None) -> EmbeddingSource:
    """The manifest entry for `model`, which was loaded from `folder`.

    Raises:
        RecipeError: the model has no such input.
    """
    check_input(model, input)
    folder = Path(folder).resolve()
    return EmbeddingSource(path=str(folder), sha256=file_sha256(folder / MANIFEST_FILE), input=input, dim=dim)


def load_source_model(
    source: EmbeddingSource | None, folder: Path | str | None = None
) -> tuple[Model, EmbeddingSource]:
    """Load the model that computed the vectors of an index, from `folder` or from its directory at that time.

    Raises:
        ArtifactError: the index was built without a model, or the directory does not contain this model.
    """
    if source is None:
        raise ArtifactError("the index was built from vectors without a model; search it from Python with vectors")
    model_folder = Path(folder or source.path)
    if not (model_folder / MANIFEST_FILE).is_file():
        raise ArtifactError(f"the model of the index is not in {model_folder}; give its directory (--model DIR)")
    if file_sha256(model_folder / MANIFEST_FILE) != source.sha256:
        raise ArtifactError(
            f"{model_folder} contains another model than that of the index, so vectors cannot be compared; give the "
            "right model (--model DIR) or build the index again"
        )
    return Model.load(model_folder), source


def comparable_inputs(model: Model, indexed: str | None) -> list[str]:
    """The inputs whose embeddings can be compared with an index of the input `indexed` (None: of whole rows)."""
    alignment = model.alignment
    if alignment is not None and (indexed in alignment.inputs or (indexed is None and not has_embed_decoder(model))):
        return list(alignment.inputs)
    return [indexed] if indexed is not None else []


def has_embed_decoder(model: Model) -> bool:
    """Whether an output of the model embeds whole rows."""
    return any(isinstance(one, Embed) for one in model.network.all_decoders())


def check_input(model: Model, input: str | None) -> None:
    """Raises RecipeError if the model has no input of this name."""
    if input is not None and input not in model.recipe.inputs:
        raise RecipeError("input", f"the model has no input {input!r}; {did_you_mean(input, model.recipe.inputs)}")
