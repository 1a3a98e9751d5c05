"""Texts beside numbers: boosted trees on numbers, categories, dates and the out-of-fold answers of a linear model that
reads the same columns and the n-grams of the texts."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from scipy import sparse
from scripts.frames import tabular, texts
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import cross_val_predict
from sklearn.preprocessing import OneHotEncoder, StandardScaler


def linear_features(job: SimpleNamespace):
    """Scaled numbers, one-hot categories and n-grams of the training rows and of the test rows."""
    train, test = tabular(job)
    numbers, categories = train.select_dtypes("number").columns, train.select_dtypes("category").columns
    scaler, coder = StandardScaler().fit(train[numbers]), OneHotEncoder(handle_unknown="ignore").fit(train[categories])
    # the effects of words on a number add up, so their rows are not normalized
    options = {"norm": None, "use_idf": False, "binary": True} if job.task == "regression" else {"sublinear_tf": True}
    vectors = TfidfVectorizer(ngram_range=(1, 2), min_df=2, **options).fit(texts(job, job.train))
    for frame, part in ((train, job.train), (test, job.test)):
        scaled = sparse.csr_matrix(np.nan_to_num(scaler.transform(frame[numbers])))
        yield sparse.hstack([scaled, coder.transform(frame[categories]), vectors.transform(texts(job, part))]).tocsr()


def run(job: SimpleNamespace):
    (train, test), (known, new), target = tabular(job), linear_features(job), np.array(job.train[job.target])
    is_regression = job.task == "regression"
    head = Ridge(3) if is_regression else LogisticRegression(C=10, max_iter=1000)
    method = "predict" if is_regression else "predict_proba"
    read = cross_val_predict(head, known, target, cv=5, method=method).reshape(len(target), -1)
    answers = np.reshape(getattr(head.fit(known, target), method)(new), (new.shape[0], -1))
    for column in range(read.shape[1]):
        train[f"linear {column}"], test[f"linear {column}"] = read[:, column], answers[:, column]
    kind = HistGradientBoostingRegressor if is_regression else HistGradientBoostingClassifier
    model = kind(learning_rate=0.05, max_iter=300, categorical_features="from_dtype", random_state=job.seed)
    model.fit(train, target)
    return model.predict(test) if is_regression else (model.classes_, model.predict_proba(test))
