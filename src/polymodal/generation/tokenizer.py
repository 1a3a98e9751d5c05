"""Tokenizers of text decoders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from polymodal.checkpoint.model_directory import read_json, verify_model_files
from polymodal.checkpoint.reading import parsing
from polymodal.core.errors import ArtifactError, RecipeError
from polymodal.generation.control_tokens import control_tokens, without_control_tokens
from polymodal.modalities.bpe import PAD_TOKEN, disable_special_tokens, train_bpe
from polymodal.modalities.checkpoint_tokenizer import CheckpointTokenizer
from polymodal.pretrained.checkpoint_config import CheckpointConfig

BEGIN, END = "[begin]", "[end]"
#: Control tokens of the roles in a conversation, in tokenizers that are trained here.
ROLES = {"system": "[system]", "user": "[user]", "assistant": "[assistant]"}
SPECIAL_TOKENS = (PAD_TOKEN, BEGIN, END, *ROLES.values())
#: Special tokens and the 256 bytes: the smallest vocabulary of a tokenizer that is trained here.
MIN_VOCAB_SIZE = len(SPECIAL_TOKENS) + 256


class TextTokenizer:
    """A tokenizer with begin and end tokens. Encoding never gives control tokens, and decoding drops them.

    bos_id, eos_id: ids of the tokens before and after a text
    vocab_size: number of token ids
    control_ids: ids of the control tokens
    checkpoint: config of the checkpoint of a pretrained tokenizer; None for a tokenizer that was trained here

    Example:
        >>> tokenizer = TextTokenizer.train(["a red circle", "a blue square"] * 10, vocab_size=300)
        >>> (ids,) = tokenizer.encode(["a red square"])
        >>> tokenizer.decode([ids])
        ['a red square']
    """

    def __init__(
        self, backend: Tokenizer, bos_id: int, eos_id: int, vocab_size: int, checkpoint: CheckpointConfig | None = None
    ) -> None:
        self.backend, self.bos_id, self.eos_id, self.vocab_size, self.checkpoint = (
            backend,
            bos_id,
            eos_id,
            vocab_size,
            checkpoint,
        )
        backend.no_padding()
        backend.no_truncation()
        disable_special_tokens(backend)
        unknown = None if checkpoint is None else checkpoint.files.get("tokenizer_config", {}).get("unk_token")
        self.control_ids = control_tokens(backend, unknown.get("content") if isinstance(unknown, dict) else unknown)
        self._without_control: Tokenizer | None = None
        # Whisper was trained on transcripts that begin with a space
        self.prefix = " " if checkpoint is not None and checkpoint.config.get("model_type") == "whisper" else ""

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, *, merge: bool = True) -> TextTokenizer:
        """Train a byte-level BPE tokenizer on `texts`; without `merge`, the tokens are single bytes."""
        tokenizer = train_bpe(texts, vocab_size, lowercase=False, special=SPECIAL_TOKENS, merge=merge)
        return cls(tokenizer, 1, 2, tokenizer.get_vocab_size())

    @classmethod
    def from_checkpoint(cls, checkpoint: str) -> TextTokenizer:
        """Load the tokenizer of a pretrained checkpoint.

        Raises:
            RecipeError: there is no such checkpoint, or its files define no end token.
            MissingExtraError: it needs an optional package.
        """
        reader = CheckpointTokenizer.from_checkpoint(checkpoint)
        return cls._from_checkpoint_config(reader.tokenizer, reader.card)

    @classmethod
    def from_model(cls, folder: str) -> TextTokenizer:
        """Load the tokenizer of the text output of the model saved in `folder`.

        Raises:
            RecipeError: `folder` is not a model directory, or the model does not have exactly one text output.
        """
        path = Path(folder) / "preparation.json"
        try:
            verify_model_files(Path(folder))
            with parsing(path):
                outputs: dict[str, Any] = read_json(path)["outputs"]
                states = enumerate(outputs.values())
                found = [(index, state["tokenizer"]) for index, state in states if "tokenizer" in state]
        except ArtifactError as error:
            raise RecipeError("tokenizer", str(error)) from None
        if len(found) != 1:
            problem = f"the model in {folder} has {len(found)} text outputs; exactly one is required"
            raise RecipeError("tokenizer", problem)
        index, saved = found[0]
        file = Path(folder) / "preparation" / f"output{index}" / "tokenizer.json"
        with parsing(file):
            return cls.load(file.read_text(encoding="utf-8"), saved)

    @classmethod
    def _from_checkpoint_config(cls, tokenizer: Tokenizer, checkpoint: CheckpointConfig) -> TextTokenizer:
        config = {**checkpoint.config, **checkpoint.files.get("generation_config", {})}
        inner = config.get("text_config")
        config = {**inner, **config} if isinstance(inner, dict) else config
        eos_id = _first_id(config.get("eos_token_id"))
        if eos_id is None:
            raise RecipeError("checkpoint", f"the files of {checkpoint.name!r} define no end token")
        starts = [_first_id(config.get(name)) for name in ("decoder_start_token_id", "bos_token_id")]
        bos_id = next((start for start in starts if start is not None), eos_id)
        vocab_size = config.get("vocab_size") or tokenizer.get_vocab_size()
        return cls(tokenizer, bos_id, eos_id, int(vocab_size), checkpoint)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text, without begin and end tokens."""
        texts = [self.prefix + text for text in texts]
        encoded = [encoding.ids for encoding in self.backend.encode_batch_fast(texts, add_special_tokens=False)]
        for index, ids in enumerate(encoded):
            if not self.control_ids.isdisjoint(ids):  # some vocabularies contain control tokens as words
                if self._without_control is None:
                    self._without_control = without_control_tokens(self.backend, self.control_ids)
                encoded[index] = self._without_control.encode(texts[index], add_special_tokens=False).ids
        return encoded

    def decode(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        """The text of each sequence of token ids; control tokens are dropped."""
        return [text.strip() for text in self.backend.decode_batch([list(ids) for ids in tokens])]

    def role_id(self, name: str) -> int:
        """The control token before a turn of `system`, `user` or `assistant`, for a tokenizer that was trained here."""
        return SPECIAL_TOKENS.index(ROLES[name])

    def save(self) -> dict[str, Any]:
        """JSON-ready state, without the tokenizer itself, which is `backend.to_str()`."""
        return {} if self.checkpoint is None else {"checkpoint": self.checkpoint.to_dict()}

    @classmethod
    def load(cls, tokenizer: str, state: dict[str, Any]) -> TextTokenizer:
        """Restore a tokenizer from `state` of `save` and the JSON of its backend."""
        backend = Tokenizer.from_str(tokenizer)
        if "checkpoint" in state:
            return cls._from_checkpoint_config(backend, CheckpointConfig.from_dict(state["checkpoint"]))
        return cls(backend, 1, 2, backend.get_vocab_size())


def _first_id(value: Any) -> int | None:
    """A token id, or the first of several."""
    if isinstance(value, list):
        return _first_id(value[0]) if value else None
    return int(value) if isinstance(value, int) else None
