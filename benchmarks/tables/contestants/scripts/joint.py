"""One linear model on all columns: scaled numbers, one-hot categories, TF-IDF, frozen features of texts and images."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from scipy import sparse
from scripts import pictures, sentences
from scripts.frames import of_types, tabular, texts
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import OneHotEncoder, StandardScaler


def blocks(job: SimpleNamespace):
    """The features of each kind of column, `[training and test rows, width]`."""
    train, test = tabular(job)
    rows = len(job.train[job.target])
    names = list(train.select_dtypes("category"))
    if names:
        coder = OneHotEncoder(handle_unknown="ignore").fit(train[names])
        yield sparse.vstack([coder.transform(train[names]), coder.transform(test[names])])
    numbers = train.select_dtypes("number")
    if len(numbers.columns):
        scaler = StandardScaler().fit(numbers)
        made = np.concatenate([scaler.transform(numbers), scaler.transform(test[numbers.columns])])
        yield np.nan_to_num(made)
    if of_types(job, "text"):
        both = [*texts(job, job.train), *texts(job, job.test)]
        vectors = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True).fit(both[:rows])
        yield vectors.transform(both)
        yield sentences.embed(both)
    for name in of_types(job, "image"):
        features = pictures.embed(Path(job.root), [*job.train[name], *job.test[name]])
        yield StandardScaler().fit(features[:rows]).transform(features)


def run(job: SimpleNamespace):
    target = np.array(job.train[job.target])
    # every kind of column has the same mean square, so that one penalty suits all
    made = [sparse.csr_matrix(block) for block in blocks(job)]
    features = sparse.hstack([block / np.sqrt(block.power(2).sum() / block.shape[0]) for block in made]).tocsr()
    train, test = features[: len(target)], features[len(target) :]
    if job.task == "regression":
        model = GridSearchCV(Ridge(), {"alpha": [0.001, 0.01, 0.1, 1]}, cv=3).fit(train, target)
        return model.predict(test)
    options = {"C": [1, 10, 100]}
    model = GridSearchCV(LogisticRegression(max_iter=300), options, scoring="neg_log_loss", cv=3).fit(train, target)
    return model.classes_, model.predict_proba(test)
