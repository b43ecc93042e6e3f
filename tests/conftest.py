"""What several test files share: learnable pictures, records without a training, the tools."""

import os
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_project
import trees
from hypothesis import settings

from fer_utils import comparison, provenance, records
from fer_utils.claims import Judged, judge
from fer_utils.datasets import FaceDataset
from fer_utils.manifests import PublishedPaper, load_manifest

ENTRY_POINTS = ("fer_utils.metrics:score",)


def pytest_configure(config):
    # Keras on TensorFlow turns its variables into arrays in a way that NumPy 2 deprecates.
    config.addinivalue_line("filterwarnings", "ignore:__array__ implementation:DeprecationWarning")
    # No test fails because a machine is busy.
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")


@pytest.fixture(scope="session")
def faces() -> FaceDataset:
    """64 pictures of three expressions, in mixed order; mirroring leaves them what they are."""
    rng = np.random.default_rng(0)
    names = ("anger", "happiness", "neutral")
    labels = rng.permutation(np.arange(64) % 3)
    images = np.stack([trees.picture(names[label], rng) for label in labels])
    return FaceDataset("ck48", images[..., None], labels, names, hashes={"ck48": "a" * 64})


@pytest.fixture
def make_record():
    """A function that makes the record of a run that never was; its code is not stale."""
    code = provenance.code_hash(ENTRY_POINTS)

    def make(
        run="made-00000000",
        *,
        correct=30,
        n=40,
        seed=0,
        profile="full",
        data="fer2013",
        stale=False,
        paper="yengikand2023",
        matrix=None,
        persons=None,
        classes=("anger", "happiness"),
        **parameters,
    ):
        matrix = matrix or [[correct, n - correct], [0, 0]]
        n, correct = sum(map(sum, matrix)), sum(row[k] for k, row in enumerate(matrix))
        score = {
            "n": n,
            "correct": correct,
            "accuracy": correct / n,
            "elementwise_accuracy": 0.5 + correct / n / 2,
            "confusion_matrix": matrix,
        }
        return records.RunRecord(
            paper=paper,
            run=run,
            profile=profile,
            parameters=parameters,
            seed=seed,
            data=records.DataUsed(
                name=data,
                images=100,
                classes=classes,
                sources={"fer2013.csv": "a" * 64},
                sha256=next(iter(load_manifest(data).arrays), "b" * 64),
            ),
            split=records.SplitUsed(
                name="official",
                description="as published",
                seed=None,
                sizes={"train": 40, "val": n, "test": n},
                sha256="c" * 64,
            ),
            model=records.ModelUsed(parameters=10, multiply_accumulates=20),
            selection=records.Selection(rule="last epoch", epoch=2),
            metrics={"val": score, "test": score},
            persons=persons,
            history={"loss": [1.5, 0.1 + 0.2], "val_accuracy": [0.5, 1 / 3]},
            timings={"training": 1.25},
            device={"kind": "cpu", "cores": 2},
            versions={"python": "3.11.7"},
            code=records.Code(
                entry_points=ENTRY_POINTS,
                sha256="0" * 64 if stale else code,
                commit=None,
                modified=None,
            ),
            created=records.now(),
        )

    return make


@pytest.fixture
def make_predictions(make_record, tmp_path):
    """A function that writes a record with stored probabilities below `tmp_path` and reads it."""

    def make(name, right, prediction=0.9, **fields):
        """Images of anger; `prediction` is the probability of what is predicted."""
        right = np.asarray(right, bool)
        sure = np.where(right, prediction, 1 - prediction)
        probabilities = np.stack([sure, 1 - sure], axis=1).astype(np.float32)
        record = make_record(name, n=len(right), correct=int(right.sum()), **fields)
        records.write(record, probabilities, np.zeros(len(right), np.int64), tmp_path)
        return records.read(tmp_path / record.paper / f"{name}.json")

    return make


@pytest.fixture
def judged(monkeypatch, tmp_path, make_record):
    """A function: what is said of the claims of a paper, from records as they are read."""

    def judge_claims(published: PublishedPaper, **right: int | None) -> list[Judged]:
        """Two runs of each model in `right`, which gives how many of 400 images are right."""
        monkeypatch.setattr(comparison, "load_published", lambda name: published)
        for model, correct in right.items():
            for seed in (0, 1):
                made = make_record(
                    f"{model}-{seed}",
                    correct=correct,
                    n=400,
                    seed=seed,
                    stale=model == "old" and correct == 1,
                    dataset="fer2013",
                    model=model,
                )
                records.write(made, None, None, tmp_path)
        compared = comparison.compare("yengikand2023", tmp_path)
        recorded = records.read_all("yengikand2023", tmp_path)
        return judge(published, compared, recorded, tmp_path)

    return judge_claims


@pytest.fixture
def tool(monkeypatch):
    """A file of tools/, as a module."""
    monkeypatch.syspath_prepend(tiny_project.ROOT / "tools")
    return import_module


@pytest.fixture
def pretend(tool, monkeypatch):
    """Let within.py start nothing: a run ends with its status of those given, at None never."""
    within = tool("within")

    def pretend(ends: dict[str, int | None]) -> list[str]:
        """Names of the runs, as they are started."""
        started = []

        def start(run, build, options):
            started.append(run.name)
            status = ends.get(run.name, 0)
            process = SimpleNamespace(poll=lambda: status, returncode=status)
            training = within.Training(run, process, Path(os.devnull), seconds=10**6)
            training.look = lambda: True
            return training

        monkeypatch.setattr(within, "start", start)
        monkeypatch.setattr(within, "stop", lambda training: None)
        monkeypatch.setattr(within, "slow_here", lambda runs: [])  # of a paper that nobody wrote
        return started

    return pretend
