"""A byte-level byte-pair encoding, trained on the given texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

PAD_TOKEN = "[pad]"
#: The 256 bytes and the padding token: the minimum vocabulary.
MIN_VOCAB_SIZE = 257


def train_bpe(
    texts: Iterable[str], vocab_size: int, lowercase: bool, special: Sequence[str] = (PAD_TOKEN,), *, merge: bool = True
) -> Tokenizer:
    """Train a tokenizer of up to `vocab_size` tokens on `texts`. The same texts in the same order give the same
    tokenizer.

    The initial tokens are the 256 bytes, so that no text of any script is ever unknown. Then the most frequent
    neighboring pair is merged repeatedly (Sennrich et al., "Neural Machine Translation of Rare Words with Subword
    Units", 2016; on bytes: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019). Text is first
    normalized to Unicode form NFC.

    special: the first tokens, which never result from text; token 0 is padding
    merge: if False, every byte is a token, whatever the vocabulary size
    """
    steps: list[normalizers.Normalizer] = [normalizers.Lowercase()] if lowercase else []
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.NFC(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size if merge else len(special) + 256,
        special_tokens=list(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return disable_special_tokens(tokenizer)


def disable_special_tokens(tokenizer: Tokenizer) -> Tokenizer:
    """Encode "[pad]" in a text as five characters, not as padding. A saved tokenizer does not store this setting."""
    tokenizer.encode_special_tokens = True
    return tokenizer
