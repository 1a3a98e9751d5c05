"""Text metrics by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.metrics.base import Metric
from polymodal.metrics.text.answer_matching import exact_match, normalized_exact_match, token_f1
from polymodal.metrics.text.bleu import bleu
from polymodal.metrics.text.chrf import chrf
from polymodal.metrics.text.cider import cider
from polymodal.metrics.text.error_rates import cer, wer, wer_english
from polymodal.metrics.text.fact_scores import FactReader, fact_f1
from polymodal.metrics.text.meteor import meteor
from polymodal.metrics.text.page_scores import element_f1, page_similarity, page_validity
from polymodal.metrics.text.program_scores import mutation_score, pass_at_1, suite_validity, syntax_validity
from polymodal.metrics.text.rouge import rouge
from polymodal.metrics.text.vqa import vqa_accuracy

#: Description of each metric with its range.
TEXT_METRICS = {
    "bleu": "BLEU, tokenizer 13a (0 to 100; extra text)",
    "bleu_zh": "BLEU, tokenizer for Chinese (0 to 100; extra text)",
    "bleu_char": "BLEU of characters (0 to 100; extra text)",
    "chrf": "chrF2 of 1 to 6 characters (0 to 100; extra text)",
    "rouge1": "ROUGE-1 F1, Latin letters and digits (0 to 1; extra text)",
    "rouge2": "ROUGE-2 F1, Latin letters and digits (0 to 1; extra text)",
    "rougeL": "ROUGE-L F1, Latin letters and digits (0 to 1; extra text)",
    "rouge1_multilingual": "ROUGE-1 F1, any script (0 to 1; extra text)",
    "rouge2_multilingual": "ROUGE-2 F1, any script (0 to 1; extra text)",
    "rougeL_multilingual": "ROUGE-L F1, any script (0 to 1; extra text)",
    "meteor": "METEOR, exact and stem matches (0 to 1; extra text)",
    "cider": "CIDEr-D (0 to 10)",
    "exact_match": "fraction of texts equal to a reference (0 to 1)",
    "normalized_exact_match": "fraction of texts equal to a reference after SQuAD normalization (0 to 1)",
    "token_f1": "F1 of words shared with the best reference (0 to 1)",
    "vqa_accuracy": "agreement with the annotators, three are enough (0 to 1)",
    "wer": "word error rate (0 is best; extra text)",
    "wer_english": "word error rate after Whisper's English normalization (0 is best; extras text, pretrained)",
    "cer": "character error rate (0 is best; extra text)",
    "fact_f1": "F1 of stated facts (0 to 1)",
    "page_validity": "fraction of pages that can be rendered (0 to 1)",
    "page_similarity": "pixel similarity of the rendered page to the reference (0 to 1)",
    "element_f1": "F1 of a page's elements (0 to 1)",
    "syntax_validity": "fraction of texts with valid Python syntax (0 to 1)",
    "pass@1": "fraction of programs that pass the tests of their cell (0 to 1)",
    "suite_validity": "fraction of generated test suites that the correct program passes (0 to 1)",
    "mutation_score": "fraction of mutants that the generated tests detect (0 to 1)",
}
#: Metrics of code. Their references must be pages, or contain tests or programs (`metrics.code_eval.program_cells`).
CODE_METRICS = (
    "page_validity",
    "page_similarity",
    "element_f1",
    "syntax_validity",
    "pass@1",
    "suite_validity",
    "mutation_score",
)

_BUILDERS: dict[str, Callable[[], Metric]] = {
    "bleu": bleu,
    "bleu_zh": partial(bleu, "zh"),
    "bleu_char": partial(bleu, "char"),
    "chrf": chrf,
    "rouge1": partial(rouge, "rouge1"),
    "rouge2": partial(rouge, "rouge2"),
    "rougeL": partial(rouge, "rougeL"),
    "rouge1_multilingual": partial(rouge, "rouge1", any_script=True),
    "rouge2_multilingual": partial(rouge, "rouge2", any_script=True),
    "rougeL_multilingual": partial(rouge, "rougeL", any_script=True),
    "meteor": meteor,
    "exact_match": exact_match,
    "normalized_exact_match": normalized_exact_match,
    "token_f1": token_f1,
    "vqa_accuracy": vqa_accuracy,
    "wer": wer,
    "wer_english": wer_english,
    "cer": cer,
    "page_validity": page_validity,
    "page_similarity": page_similarity,
    "element_f1": element_f1,
    "syntax_validity": syntax_validity,
    "pass@1": pass_at_1,
    "suite_validity": suite_validity,
    "mutation_score": mutation_score,
}


def text_metrics(
    names: Iterable[str],
    *,
    documents: Iterable[Sequence[str]] | None = None,
    read: FactReader | None = None,
) -> list[Metric]:
    """Text metrics by name, in this order. They score an object array `[rows]` of str (None is scored as the empty
    text) against an object array `[rows]` of tuples of references.

    documents: references by row, from which `cider` computes the document frequencies; None: those of the scored rows
    read: function from a text to its set of facts, for `fact_f1`

    Raises:
        RecipeError: unknown name, or `fact_f1` without `read`.
        MissingExtraError: a metric needs a package that is not installed.

    Example:
        >>> import numpy as np
        >>> (metric,) = text_metrics(["exact_match"])
        >>> texts, references = np.array(["yes", "no"], object), np.empty(2, object)
        >>> references[:] = [("yes", "yeah"), ("yes",)]
        >>> metric.score(texts, references, np.ones(2))
        0.5
    """
    return [_metric(name, documents, read) for name in names]


def _metric(name: str, documents: Iterable[Sequence[str]] | None, read: FactReader | None) -> Metric:
    if name == "cider":
        return cider(documents)
    if name == "fact_f1":
        if read is None:
            raise RecipeError("metrics", "fact_f1 needs a function that parses the facts of a text; pass `read`")
        return fact_f1(read)
    if name not in _BUILDERS:
        raise RecipeError("metrics", f"there is no text metric {name!r}; {did_you_mean(name, TEXT_METRICS)}")
    return _BUILDERS[name]()
