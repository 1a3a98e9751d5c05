"""Conversion of legacy tokenizer files of a checkpoint (WordPiece, BPE merges, SentencePiece) to `tokenizer.json`."""

from __future__ import annotations

from pathlib import Path

import xxhash

from polymodal.core.errors import MissingExtraError, RecipeError
from polymodal.core.paths import cache_folder
from polymodal.pretrained.checkpoint_config import Card
from polymodal.pretrained.hub import replacing

OLDER = ["vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model"]
SETTINGS = ["config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"]
TOKENIZER_FILES = ["tokenizer.json", *OLDER, *SETTINGS]


def converted(card: Card, folder: Path) -> Path:
    """Convert the legacy tokenizer files in `folder` to `tokenizer.json` with transformers, once, into the cache.

    Raises:
        RecipeError: there are no such files, or transformers cannot convert them.
        MissingExtraError: transformers is not installed.
    """
    files = [folder / name for name in [*OLDER, *SETTINGS] if (folder / name).is_file()]
    if not any(file.name in OLDER for file in files):
        known = ", ".join(["tokenizer.json", *OLDER])
        raise RecipeError("", f"checkpoint {card.model!r} has no tokenizer: none of {known} in {folder}")
    key = xxhash.xxh3_128()
    for file in files:
        key.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    target = cache_folder() / "weights" / "tokenizers" / key.hexdigest() / "tokenizer.json"
    if not target.is_file():
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            raise MissingExtraError("transformers", "pretrained", f"the tokenizer of {card.model}") from error
        try:
            made = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            content = made.backend_tokenizer.to_str()
        except (AttributeError, ImportError, KeyError, OSError, TypeError, ValueError) as error:
            problem = f"the tokenizer of checkpoint {card.model!r} cannot be converted to tokenizer.json ({error})"
            raise RecipeError("", problem) from error
        replacing(target, content)
    return target
