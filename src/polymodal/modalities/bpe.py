"""A byte-level byte-pair encoding, trained on the texts at hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

PAD = "[pad]"
#: the 256 bytes and the padding symbol: the smallest vocabulary there can be
SMALLEST = 257


def train_bpe(
    texts: Iterable[str], vocabulary: int, lowercase: bool, special: Sequence[str] = (PAD,), *, merge: bool = True
) -> Tokenizer:
    """Learn up to `vocabulary` symbols from `texts`; the same texts in the same order give the same
    tokenizer.

    Symbols start as the 256 bytes, so that no text of any script is ever unknown; then the most frequent
    neighbouring pair is merged, again and again (Sennrich et al., "Neural Machine Translation of Rare Words
    with Subword Units", 2016; on bytes: Radford et al., "Language Models are Unsupervised Multitask
    Learners", 2019). Text is brought to Unicode form NFC first.

    special: the first symbols, which no text has; symbol 0 is padding
    merge: without, every byte is a symbol, however many symbols are allowed
    """
    steps: list[normalizers.Normalizer] = [normalizers.Lowercase()] if lowercase else []
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.NFC(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary if merge else len(special) + 256,
        special_tokens=list(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return plain(tokenizer)


def plain(tokenizer: Tokenizer) -> Tokenizer:
    """Read "[pad]" in a text as five characters, not as padding. A saved tokenizer does not remember this."""
    tokenizer.encode_special_tokens = True
    return tokenizer
