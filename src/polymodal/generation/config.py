"""How texts are written."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from polymodal.core.options import StrictModel


def override_config(writing: GenerationConfig, changes: dict[str, Any], path: str) -> GenerationConfig:
    """`writing` with other options.

    Raises:
        RecipeError: there is no such option, or they do not go together; `path` is the recipe key before its own.
    """
    from polymodal.recipe.validation_errors import recipe_error

    try:
        return GenerationConfig(**{**writing.model_dump(exclude_unset=True), **changes})
    except ValidationError as error:
        raise recipe_error(GenerationConfig, error).with_prefix(path) from None


class GenerationConfig(StrictModel):
    """How a text is chosen from what the decoder says of each next token; by default, the likeliest token each time."""

    max_tokens: int | None = Field(default=None, ge=1)
    """Most tokens of a text, its end included; silent: as many as the longest training text."""
    beams: int = Field(default=1, ge=1, le=64)
    """Texts that are kept side by side while searching for the likeliest whole; 1 takes the likeliest token each
    time."""
    length_penalty: float = Field(default=1.0, ge=0)
    """With beams, a text's log-probability is divided by its number of tokens, the end included, to this power: 0 finds
    the likeliest text, larger values prefer longer ones."""
    temperature: float = Field(default=0.0, ge=0)
    """0 takes the likeliest token; above, tokens are drawn, from probabilities to the power 1 / temperature."""
    top_k: int | None = Field(default=None, ge=1)
    """Draw from this many likeliest tokens (Fan et al., 2018). First comes the temperature, then top_k, top_p and
    min_p, each on what the one before has left."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Draw from the fewest tokens that hold this share of the probability (Holtzman et al., 2020)."""
    min_p: float | None = Field(default=None, gt=0, le=1)
    """Draw from tokens at least this likely beside the likeliest (Nguyen et al., 2024)."""
    repetition_penalty: float = Field(default=1.0, gt=0)
    """Logits of tokens that were written already are divided by it where positive, multiplied where negative (Keskar
    et al., 2019). The words of the prompt do not count: answers need them."""
    stop: list[Annotated[str, Field(min_length=1)]] = []
    """Texts at which writing ends; they are left out."""
    samples: int = Field(default=1, ge=1, le=1024)
    """Texts for each row: several draws, or the best of the beams."""
    seed: int = Field(default=0, ge=0)
    """Seed of the draws; those of a row depend on it and on the row's number in its table."""
    choices: list[str] | None = None
    """The only texts that may be written."""
    regex: str | None = None
    """A regular expression that the whole text matches; no look-around, no back-references."""
    json_schema: dict[str, Any] | None = None
    """A JSON schema that the text, a JSON document, meets."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        drawn = [name for name in ("top_k", "top_p", "min_p") if getattr(self, name) is not None]
        if drawn and self.temperature == 0:
            raise ValueError(f"{drawn[0]} is for draws; set a temperature above 0")
        if self.beams > 1 and self.temperature > 0:
            raise ValueError("beams search for the likeliest text and do not draw; set temperature to 0 or beams to 1")
        if self.samples > 1 and self.temperature == 0 and self.samples > self.beams:
            raise ValueError("without draws there are no more texts than beams; set a temperature, or as many beams")
        if sum(one is not None for one in (self.choices, self.regex, self.json_schema)) > 1:
            raise ValueError("a text is held to one of choices, regex and json_schema, not to several")
        if self.choices is not None and not self.choices:
            raise ValueError("choices names no text")
        if self.stop and (self.choices is not None or self.regex is not None or self.json_schema is not None):
            raise ValueError("stop would cut a text that is held to choices, regex or json_schema; leave it out")
        if self.length_penalty != 1 and self.beams == 1:
            raise ValueError("length_penalty is for beams; set beams above 1")
        return self
