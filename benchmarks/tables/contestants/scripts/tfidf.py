"""TF-IDF of words and word pairs (of characters for scripts without spaces), and logistic or ridge regression."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
from scripts.frames import texts
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline


def run(job: SimpleNamespace):
    train, test = texts(job, job.train), texts(job, job.test)
    target = job.train[job.target]
    is_chinese = sum(bool(re.search(r"[\u3040-\u30ff\u4e00-\u9fff]", text)) for text in train) > len(train) / 2
    words = {"analyzer": "char", "ngram_range": (1, 2)} if is_chinese else {"ngram_range": (1, 2)}
    vectors = TfidfVectorizer(**words, min_df=2, sublinear_tf=True, max_features=100_000)
    if job.task == "regression":
        # the targets are centered, because a sparse matrix is not
        mean = np.mean(target)
        model = make_pipeline(vectors, RidgeCV([0.1, 1, 10], fit_intercept=False)).fit(train, target - mean)
        return model.predict(test) + mean
    model = make_pipeline(vectors, LogisticRegression(C=10, max_iter=1000)).fit(train, target)
    return model.classes_, model.predict_proba(test)
