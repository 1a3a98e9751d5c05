"""Conversion of legacy tokenizer files of a checkpoint (WordPiece, BPE merges, SentencePiece) to `tokenizer.json`."""

from __future__ import annotations

import json
from pathlib import Path

import xxhash

from polymodal.core.caller import warn_caller
from polymodal.core.checksum import CHECKSUMS, file_checksum, is_unchanged, read_signed, sign
from polymodal.core.errors import MissingExtraError, RecipeError
from polymodal.core.paths import CacheWarning, cache_folder
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.pretrained.hub import write_atomic

LEGACY_FILES = ["vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model"]
SETTINGS_FILES = ["config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"]
TOKENIZER_FILES = ["tokenizer.json", *LEGACY_FILES, *SETTINGS_FILES]


def convert_tokenizer(checkpoint: CheckpointConfig, folder: Path) -> Path:
    """Convert the legacy tokenizer files in `folder` to `tokenizer.json` with transformers, once, into the cache.

    Raises:
        RecipeError: there are no such files, or transformers cannot convert them.
        MissingExtraError: transformers is not installed.
        PolymodalError: the cache cannot be written to.
    """
    files = [folder / name for name in [*LEGACY_FILES, *SETTINGS_FILES] if (folder / name).is_file()]
    if not any(file.name in LEGACY_FILES for file in files):
        known = ", ".join(["tokenizer.json", *LEGACY_FILES])
        raise RecipeError("", f"checkpoint {checkpoint.name!r} has no tokenizer: none of {known} in {folder}")
    key = xxhash.xxh3_128()
    for file in files:
        key.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    target = cache_folder() / "weights" / "tokenizers" / key.hexdigest() / "tokenizer.json"
    sums = read_signed(target.with_name(CHECKSUMS)) or {}
    if not is_unchanged(target, sums.get(target.name, "")):
        if sums:
            warn_caller(f"{target} in the cache is damaged: it is converted again", CacheWarning)
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            raise MissingExtraError("transformers", "pretrained", f"the tokenizer of {checkpoint.name}") from error
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            content = tokenizer.backend_tokenizer.to_str()
        except (AttributeError, ImportError, KeyError, OSError, TypeError, ValueError) as error:
            problem = f"the tokenizer of checkpoint {checkpoint.name!r} cannot be converted to tokenizer.json ({error})"
            raise RecipeError("", problem) from error
        write_atomic(target, content)
        write_atomic(target.with_name(CHECKSUMS), json.dumps(sign({target.name: file_checksum(target)})))
    return target
