"""What the loop in PyTorch has to itself; test_loops.py holds what it shares."""

import os
from dataclasses import replace

import numpy as np
import pytest
import tiny_torch
import torch
from safetensors import safe_open
from tiny_training import assert_same, names, train, train_interrupted

from fer_utils.training import torch_loop


@pytest.fixture(scope="module")
def undisturbed(faces, tmp_path_factory):
    """A run from beginning to end, and its folder."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return train(tiny_torch, faces, folder), folder


def test_a_model_without_an_optimizer_is_measured_and_stays_as_it_is(faces, tmp_path):
    model = replace(tiny_torch.network(), optimizer=None)
    model.network.eval().train = lambda mode=True: model.network
    before = tiny_torch.weights(model)
    history, best_epoch, _ = train(
        tiny_torch,
        faces,
        tmp_path,
        model=model,
        learning_rate=lambda history: None if history["loss"] else 0.0,
    )
    assert best_epoch == 1
    assert {len(values) for values in history.values()} == {1}
    assert_same(tiny_torch.weights(model), before)


def test_bfloat16_rounds_the_products_and_keeps_the_weights(undisturbed, faces, tmp_path):
    model = tiny_torch.network(precision="bfloat16")
    history, _, probabilities = train(tiny_torch, faces, tmp_path, model=model)
    assert {value.dtype for value in model.network.parameters()} == {torch.float32}
    assert history["loss"] != undisturbed[0][0]["loss"]
    assert history["loss"][0] == pytest.approx(undisturbed[0][0]["loss"][0], abs=0.05)
    np.testing.assert_allclose(np.sum(probabilities, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("precision", "instructions", "gpu", "slow"),
    [
        ("bfloat16", False, False, True),
        ("bfloat16", True, False, False),
        ("bfloat16", False, True, False),
        ("float32", False, False, False),
        ("tf32", False, False, False),
    ],
)
def test_bfloat16_is_known_to_be_slow_where_the_processor_has_no_instructions_for_it(
    monkeypatch, precision, instructions, gpu, slow
):
    asked = torch.ops.mkldnn._is_mkldnn_bf16_supported
    assert isinstance(asked(), bool)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: instructions)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert torch_loop.in_software(precision) is slow


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_carries_on_with_either_optimizer_in_either_precision(
    faces, tmp_path, precision, optimizer
):
    def network():
        return tiny_torch.network(precision=precision, optimizer=optimizer)

    whole = train(tiny_torch, faces, tmp_path / "whole", model=network())
    assert train_interrupted(tiny_torch, faces, tmp_path / "cut", network) == whole
    assert names(tmp_path / "cut") == names(tmp_path / "whole")


def test_the_probabilities_of_all_views_of_an_image_are_averaged(faces):
    model, images = tiny_torch.network(), faces.images[:5]
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    both = torch_loop.predict(
        model, images, batch_size=2, views=lambda batch: np.stack([batch, batch[:, :, ::-1]], 1)
    )
    one, two = torch_loop.predict(model, images), torch_loop.predict(model, mirrored)
    assert np.abs(one - two).max() > 1e-4
    np.testing.assert_allclose(both, (one + two) / 2, atol=1e-6)


def test_a_checkpoint_is_one_file_of_tensors_with_the_momentum(undisturbed):
    _, folder = undisturbed
    with safe_open(folder / "epoch-0004.safetensors", "pt") as file:
        keys = set(file.keys())
    assert {"network.2.weight", "network.3.running_mean", "network.8.bias"} <= keys
    assert sum(key.startswith("optimizer.") and "momentum_buffer" in key for key in keys) == 8


def test_threads_are_those_asked_for_or_all():
    before = torch.get_num_threads()
    torch_loop.prepare(0, threads=1)
    assert torch.get_num_threads() == 1
    torch_loop.prepare(0)
    assert torch.get_num_threads() == os.cpu_count()
    torch.set_num_threads(before)
