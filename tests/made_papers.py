"""A paper that nobody wrote, with claims that tests choose."""

from unittest import mock

from fer_utils import manifests
from fer_utils.manifests import PublishedPaper

PROTOCOLS = (*manifests.PROTOCOLS, "by image", "by person")  # of made runs


def cell(name: str, value: float, **changes) -> dict:
    return {
        "id": name,
        "row": name.capitalize(),
        "column": "FER2013",
        "value": value,
        "printed": f"{value:.2f}",
        "unit": "percent",
        "kind": "own",
        "metric": "accuracy",
        "dataset": "fer2013",
        "margin": 2.0,
        "margin_reason": "made",
        "select": {"dataset": "fer2013", "model": name},
    } | changes


CITED = {"kind": "cited", "margin": None, "margin_reason": None, "select": {}}
GAIN = {"id": "gain", "says": "New <b> is better", "kind": "improvement", "better": "new"}
GAIN |= {"base": "old", "n_test": 400}
BEST = {"id": "best", "says": "The best of all", "kind": "highest", "best": "new"}
BEST |= {"others": ["weak", "strong"]}
SUM = {"id": "sum", "says": "4 and 5 are 9", "kind": "total", "parts": ["four", "five"], "total": 9}


def paper(
    *claims: dict, unit: str = "percent", new: float = 80.0, more: tuple = (), **changes
) -> PublishedPaper:
    """Three models of its own, one of them new, and two others cited; `more` cells besides."""
    scale = 1 if unit == "percent" else 100
    cells = [
        cell("new", new, **changes),
        cell("old", 60.0),
        cell("third", 50.0),
        cell("weak", 50.0, **CITED),
        cell("strong", 70.0, **CITED),
    ]
    for made in cells:
        value = made["value"] / scale
        made |= {"value": value, "printed": f"{value:.4f}", "unit": unit}
        made["margin"] = made["margin"] and made["margin"] / scale
    count = {"unit": "count", "metric": "images", **CITED}
    cells += [cell("four", 4, **count), cell("five", 5, **count), *more]
    raw = {
        "paper": "yengikand2023",  # whose records the made ones say they are
        "title": "A paper that nobody wrote",
        "authors": ["Nobody"],
        "year": 2026,
        "venue": "none",
        "framework": "Keras",
        "headline": ["new"],
        "tables": [{"id": "Table 1", "caption": "Results", "cells": cells}],
        "claims": claims,
    }
    with mock.patch.object(manifests, "PROTOCOLS", PROTOCOLS):
        return PublishedPaper.model_validate(raw)
