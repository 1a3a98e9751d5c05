"""Texts beside numbers: boosted trees on numbers, categories, dates and the out-of-fold answers of TF-IDF."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from scripts.frames import tabular, texts
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline


def run(job: SimpleNamespace):
    train, test = tabular(job)
    train_texts, test_texts, target = texts(job, job.train), texts(job, job.test), job.train[job.target]
    is_regression = job.task == "regression"
    head = Ridge() if is_regression else LogisticRegression(C=10, max_iter=1000)
    reader = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True), head)
    method = "predict" if is_regression else "predict_proba"
    read = cross_val_predict(reader, train_texts, target, cv=5, method=method).reshape(len(target), -1)
    answers = np.reshape(getattr(reader.fit(train_texts, target), method)(test_texts), (len(test_texts), -1))
    for column in range(read.shape[1]):
        train[f"text {column}"], test[f"text {column}"] = read[:, column], answers[:, column]
    kind = HistGradientBoostingRegressor if is_regression else HistGradientBoostingClassifier
    model = kind(learning_rate=0.05, max_iter=300, categorical_features="from_dtype", random_state=job.seed)
    model.fit(train, target)
    return model.predict(test) if is_regression else (model.classes_, model.predict_proba(test))
