"""The model behind an index: which model it was, and which of its embeddings can be compared with the rows."""

from __future__ import annotations

from pathlib import Path

from polymodal.applications.search.manifest import MANIFEST_FILE, EmbeddingSource
from polymodal.checkpoint.model_directory import file_sha256
from polymodal.core.errors import ArtifactError, RecipeError, did_you_mean
from polymodal.model.model import Model
from polymodal.nn.decoders.embed import Embed


def make_source(folder: Path | str, model: Model, input: str | None, size: int | None) -> EmbeddingSource:
    """What an index keeps of `model`, which was read from `folder`.

    Raises:
        RecipeError: the model has no such input.
    """
    check_input(model, input)
    folder = Path(folder).resolve()
    return EmbeddingSource(path=str(folder), sha256=file_sha256(folder / MANIFEST_FILE), input=input, size=size)


def load_source_model(source: EmbeddingSource | None, folder: Path | str | None = None) -> tuple[Model, EmbeddingSource]:
    """The model that made the vectors of an index, read from where it was or from `folder`.

    Raises:
        ArtifactError: the index was made without a model, the model is not there, or it is another one.
    """
    if source is None:
        raise ArtifactError("the index was made of vectors without a model; search it from Python, with vectors")
    found = Path(folder or source.path)
    if not (found / MANIFEST_FILE).is_file():
        raise ArtifactError(f"the model of the index is not in {found}; say where it is now (--model DIR)")
    if file_sha256(found / MANIFEST_FILE) != source.sha256:
        raise ArtifactError(
            f"{found} holds another model than the one that made the index; their vectors cannot be compared: name the "
            "right one (--model DIR) or build the index again"
        )
    return Model.load(found), source


def comparable_inputs(model: Model, indexed: str | None) -> list[str]:
    """The inputs whose embeddings can be compared with rows that were embedded as `indexed` (None: as a whole)."""
    alignment = model.alignment
    if alignment is not None and (indexed in alignment.inputs or (indexed is None and not has_embed_decoder(model))):
        return list(alignment.inputs)
    return [indexed] if indexed is not None else []


def has_embed_decoder(model: Model) -> bool:
    """Whether an output of the model is made to embed whole rows."""
    return any(isinstance(one, Embed) for one in model.network.all_decoders())


def check_input(model: Model, input: str | None) -> None:
    """Raises RecipeError if the model has no input of this name."""
    if input is not None and input not in model.recipe.inputs:
        raise RecipeError("input", f"there is no input {input!r}; {did_you_mean(input, model.recipe.inputs)}")
