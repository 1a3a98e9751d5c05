"""Options of text generation."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from polymodal.core.options import MAX_SEED, Names, StrictModel


def override_config(config: GenerationConfig, changes: dict[str, Any], path: str) -> GenerationConfig:
    """A copy of `config` with some options changed.

    Raises:
        RecipeError: an option is unknown, or the options are inconsistent; `path` is the recipe key of the config.
    """
    from polymodal.recipe.validation_errors import recipe_error

    try:
        return GenerationConfig(**{**config.model_dump(exclude_unset=True), **changes})
    except ValidationError as error:
        raise recipe_error(GenerationConfig, error).with_prefix(path) from None


class GenerationConfig(StrictModel):
    """Options of text generation. Default: greedy decoding.

    Example:
        >>> GenerationConfig(temperature=0.7, top_p=0.9).temperature
        0.7
        >>> GenerationConfig(top_p=0.9)
        Traceback (most recent call last):
        ...
        pydantic_core._pydantic_core.ValidationError: 1 validation error for GenerationConfig
        ...
    """

    max_new_tokens: int | None = Field(default=None, ge=1)
    """Maximum number of generated tokens, including the end token. Default: the length of the longest training
    target."""
    num_beams: int = Field(default=1, ge=1, le=64)
    """Beam width; 1 is greedy decoding."""
    length_penalty: float = Field(default=1.0, ge=0)
    """For beam search: the log-probability of a text is divided by its number of tokens (including the end token) to
    this power. 0 gives the most likely text; larger values prefer longer texts."""
    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy decoding. Above 0, tokens are sampled from probabilities to the power 1 / temperature."""
    top_k: int | None = Field(default=None, ge=1)
    """Sample from this many most likely tokens (Fan et al., 2018). The filters apply in the order temperature, top_k,
    top_p, min_p."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Sample from the smallest set of tokens whose total probability reaches this value (Holtzman et al., 2020)."""
    min_p: float | None = Field(default=None, gt=0, le=1)
    """Sample from tokens whose probability is at least this fraction of that of the most likely token (Nguyen et al.,
    2024)."""
    repetition_penalty: float = Field(default=1.0, gt=0)
    """Logits of tokens that were already generated are divided by this value if positive and multiplied by it if
    negative (Keskar et al., 2019). The tokens of the prompt do not count, because answers need them."""
    stop_strings: list[Annotated[str, Field(min_length=1)]] = []
    """Strings that end generation; the output does not include them."""
    num_return_sequences: int = Field(default=1, ge=1, le=1024)
    """Number of texts per row: several samples, or the best texts of beam search."""
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    """Seed of the sampling; the draws of a row depend on it and on the number of the row in its table."""
    choices: Names | None = None
    """Texts to which the output is limited."""
    regex: str | None = None
    """Regular expression that the whole text must match; without look-around and back-references."""
    json_schema: dict[str, Any] | None = None
    """JSON schema of the text, which is a JSON document."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        filters = [name for name in ("top_k", "top_p", "min_p") if getattr(self, name) is not None]
        if filters and self.temperature == 0:
            raise ValueError(f"{filters[0]} requires sampling; set temperature above 0")
        if self.num_beams > 1 and self.temperature > 0:
            raise ValueError("beam search does not sample; set temperature to 0 or num_beams to 1")
        if self.num_return_sequences > 1 and self.temperature == 0 and self.num_return_sequences > self.num_beams:
            raise ValueError(
                "num_return_sequences exceeds num_beams; set num_beams at least as high, or set a temperature"
            )
        if sum(rule is not None for rule in (self.choices, self.regex, self.json_schema)) > 1:
            raise ValueError("choices, regex and json_schema exclude each other; set only one of them")
        if self.choices is not None and not self.choices:
            raise ValueError("choices is empty; list at least one text")
        if self.stop_strings and (self.choices is not None or self.regex is not None or self.json_schema is not None):
            raise ValueError("stop_strings cannot be combined with choices, regex or json_schema; remove it")
        if self.seed != 0 and self.temperature == 0:
            raise ValueError("seed requires sampling; set temperature above 0")
        if self.length_penalty != 1 and self.num_beams == 1:
            raise ValueError("length_penalty requires beam search; set num_beams above 1")
        return self
