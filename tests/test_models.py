"""Every model has the shape and size it states, learns, and survives saving and other backends.

A paper's model file takes part by having VARIANTS, PARAMETERS and `compile_model` or `optimizer`.
Listed here is only what one more parameter of a chapter makes of a variant.
"""

import importlib
import os
import pkgutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from fer_utils import models
from fer_utils.grid import has_chapter
from fer_utils.manifests import load_published, published_papers
from fer_utils.models import nouisser2023, rahman2021, yengikand2023


@dataclass(frozen=True)
class Case:
    """One architecture.

    Args:
        paper: its module.
        options: what `build` takes besides the number of classes.
        parameters: all weights with 7 classes; None where the module states none.
    """

    paper: ModuleType
    options: dict[str, Any]
    parameters: int | None

    def build(self, num_classes: int = 7):
        return self.paper.build(num_classes, **self.options)


MODULES = {
    found.name: importlib.import_module(f"{models.__name__}.{found.name}")
    for found in pkgutil.iter_modules(models.__path__)
}
TRAINED_BY = {"Keras": "compile_model", "PyTorch": "optimizer"}


def cases_with(name: str) -> dict[str, Case]:
    """The architectures of all papers whose module has a function of that name."""
    return {
        f"{paper}-{variant}": Case(module, options, getattr(module, "PARAMETERS", {}).get(variant))
        for paper, module in MODULES.items()
        if hasattr(module, "VARIANTS") and hasattr(module, name)
        for variant, options in module.VARIANTS.items()
    }


def lacking(module: object, framework: str) -> list[str]:
    """What keeps the tests from a paper's networks, or from their numbers of weights."""
    needed = ("build", "VARIANTS", "PARAMETERS", TRAINED_BY[framework])
    told = [name for name in needed if not hasattr(module, name)]
    if told:
        return told
    if not module.VARIANTS:
        return ["a variant in VARIANTS"]
    stated, variants = set(module.PARAMETERS), set(module.VARIANTS)
    return [f"PARAMETERS[{name!r}]" for name in sorted(variants - stated)] + [
        f"VARIANTS[{name!r}]" for name in sorted(stated - variants)
    ]


# Attention on the smaller maps alone, as the chapter's `attention_from` has it.
SMALLER = {
    f"nouisser2023-attention-{side}": Case(
        nouisser2023, {**nouisser2023.VARIANTS["attention"], "attention_from": side}, parameters
    )
    for side, parameters in {12: 11_806_663, 6: 11_282_375}.items()
}
IN_KERAS, IN_TORCH = cases_with("compile_model") | SMALLER, cases_with("optimizer")
every_keras_model = pytest.mark.parametrize("name", IN_KERAS)
every_torch_model = pytest.mark.parametrize("name", IN_TORCH)
BATCH, STEPS = 8, 2
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (BATCH, 48, 48, 1)).astype(np.uint8)
LABELS = RNG.permutation(np.arange(BATCH) % 7)
TARGETS = np.eye(7, dtype=np.float32)[LABELS]


@dataclass(frozen=True)
class Trained:
    """A model after two steps on one batch, without dropout, so the losses are of one function.

    Args:
        model: no test may change it.
        losses: before each step.
        still: the trainable weights that no gradient reached in the first step.
        moved: the parts of a network in torch that the steps changed.
    """

    model: Any
    losses: list[float]
    still: list[str]
    moved: frozenset[str] = frozenset()


def test_every_paper_s_models_are_found():
    assert {"yengikand2023-depthwise", "yengikand2023-normal"} < set(IN_KERAS)
    assert "rahman2021-resnet18" in IN_TORCH


@pytest.mark.parametrize("paper", sorted({*published_papers(), *MODULES}))
def test_a_paper_s_model_file_offers_what_the_tests_go_over(paper):
    """Without it they would go over fewer networks, and say nothing."""
    assert paper in published_papers(), f"{paper}: no such file in data_manifests/published"
    if paper not in MODULES and not has_chapter(paper):
        pytest.skip(f"{paper} has neither a chapter nor fer_utils/models/{paper}.py yet")
    assert paper in MODULES, f"{paper} has a chapter and no fer_utils/models/{paper}.py"
    framework = load_published(paper).framework
    assert framework in TRAINED_BY, f"framework = {framework!r}: one of {', '.join(TRAINED_BY)}"
    missing = lacking(MODULES[paper], framework)
    assert not missing, f"fer_utils/models/{paper}.py lacks {', '.join(missing)}"


@pytest.mark.parametrize(
    ("framework", "leave_out", "missing"),
    [
        ("PyTorch", {}, []),
        ("PyTorch", {"optimizer"}, ["optimizer"]),
        ("Keras", {}, ["compile_model"]),
        ("PyTorch", {"VARIANTS"}, ["VARIANTS"]),
        ("PyTorch", {"PARAMETERS"}, ["PARAMETERS"]),
        ("PyTorch", {"small"}, ["PARAMETERS['small']"]),
    ],
)
def test_what_a_model_file_lacks_is_told_by_its_name(framework, leave_out, missing, monkeypatch):
    has = {"build": dict, "optimizer": dict, "VARIANTS": {"small": {}}, "PARAMETERS": {"small": 9}}
    if "small" in leave_out:
        has["PARAMETERS"] = {}
    module = SimpleNamespace(**{name: has[name] for name in has.keys() - leave_out})
    assert lacking(module, framework) == missing
    monkeypatch.setitem(MODULES, "smith2024", module)
    cases_with("optimizer")  # made before any test: a module that lacks something fails its own


# ---- Keras -------------------------------------------------------------------------------------


@cache
def trained(name: str) -> Trained:
    keras.utils.set_random_seed(0)
    model = IN_KERAS[name].paper.compile_model(IN_KERAS[name].build())
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    losses, still = [], []
    weights = model.trainable_variables
    for _ in range(STEPS):
        with tf.GradientTape() as tape:
            probabilities = model(IMAGES, training=True)
            loss = model.compute_loss(y=TARGETS, y_pred=probabilities)
        gradients = tape.gradient(loss, [weight.value for weight in weights])
        if not losses:
            still = [
                weight.path
                for weight, gradient in zip(weights, gradients, strict=True)
                if gradient is None or not np.abs(gradient).max() > 0
            ]
        losses.append(float(loss))
        model.optimizer.apply(gradients, weights)
    return Trained(model, losses, still)


def logits(model: keras.Model, images: np.ndarray) -> np.ndarray:
    before_softmax = keras.Model(model.input, model.get_layer("logits").output)
    return np.asarray(before_softmax(images, training=False))


@every_keras_model
def test_probabilities_of_each_image_sum_to_one(name):
    probabilities = np.asarray(trained(name).model(IMAGES, training=False))
    assert probabilities.shape == (BATCH, 7)
    assert probabilities.dtype == np.float32
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@every_keras_model
def test_the_number_of_weights_is_the_one_stated(name):
    assert trained(name).model.count_params() == IN_KERAS[name].parameters


@every_keras_model
def test_the_last_layer_alone_follows_the_number_of_classes(name):
    seven, eight = trained(name).model, IN_KERAS[name].build(8)
    assert eight.output.shape == (None, 8)
    for a, b in zip(seven.layers, eight.layers, strict=True):
        shapes = [[weight.shape for weight in layer.weights] for layer in (a, b)]
        assert (shapes[0] == shapes[1]) == (a.name != "logits"), a.name


@every_keras_model
def test_every_trainable_weight_has_a_gradient(name):
    assert trained(name).still == []


@every_keras_model
def test_a_step_lowers_the_loss_of_a_fixed_batch(name):
    before, after = trained(name).losses
    assert after < before


@every_keras_model
def test_a_saved_model_reads_back_safely_with_the_same_outputs(name, tmp_path):
    model = trained(name).model
    model.save(tmp_path / "model.keras", include_optimizer=False)
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True, compile=False)
    np.testing.assert_array_equal(
        np.asarray(again(IMAGES, training=False)), np.asarray(model(IMAGES, training=False))
    )


ON_TORCH = """
import sys
import keras
import numpy as np
assert keras.backend.backend() == "torch"
images = np.load(sys.argv[1])
for path in sys.argv[2:]:
    model = keras.saving.load_model(path, compile=False)
    logits = keras.Model(model.input, model.get_layer("logits").output)(images, training=False)
    np.save(path + ".npy", keras.ops.convert_to_numpy(logits))
"""


@pytest.mark.slow
def test_the_same_weights_give_the_same_logits_on_the_torch_backend(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    paths = {name: str(tmp_path / f"{name}.keras") for name in IN_KERAS}
    for name, path in paths.items():
        trained(name).model.save(path, include_optimizer=False)
    subprocess.run(  # Keras chooses its backend when it is imported
        [sys.executable, "-c", ON_TORCH, str(tmp_path / "images.npy"), *paths.values()],
        env={**os.environ, "KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1"},
        check=True,
    )
    for name, path in paths.items():
        here = logits(trained(name).model, IMAGES)
        spread = np.ptp(here)
        assert spread > 1e-3, f"{name}: logits that are all alike compare nothing"
        np.testing.assert_allclose(
            np.load(f"{path}.npy"), here, rtol=0, atol=1e-3 * spread, err_msg=name
        )


# ---- PyTorch -----------------------------------------------------------------------------------

PICTURES = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)


@cache
def trained_in_torch(name: str) -> Trained:
    """As `trained`; losses are missing where there is nothing to train."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # two of them slow each other down on a busy machine
    network = IN_TORCH[name].build().train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    for layer in network.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    optimizer = IN_TORCH[name].paper.optimizer(network)
    losses, still = [], []
    for _ in range(STEPS):
        loss = functional.cross_entropy(network(PICTURES), torch.from_numpy(LABELS))
        if optimizer is None:
            continue
        optimizer.zero_grad()
        loss.backward()
        if not losses:
            still = [
                name
                for name, weight in network.named_parameters()
                if weight.requires_grad and (weight.grad is None or not weight.grad.any())
            ]
        losses.append(loss.item())
        optimizer.step()
    after = network.state_dict()
    moved = {key.split(".")[0] for key in after if not torch.equal(before[key], after[key])}
    return Trained(network.eval(), losses, still, frozenset(moved))


@torch.inference_mode()
def outputs(network: nn.Module) -> torch.Tensor:
    return network(PICTURES)


def on_paper(name: str, num_classes: int) -> nn.Module:
    """The network without memory for its weights."""
    with torch.device("meta"):
        return IN_TORCH[name].build(num_classes)


@every_torch_model
def test_a_network_in_torch_gives_a_logit_a_class(name):
    found = outputs(trained_in_torch(name).model)
    assert found.shape == (BATCH, 7)
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    assert not torch.equal(found[0], found[1]), "the same for all pictures"


@every_torch_model
def test_the_number_of_weights_in_torch_is_the_one_stated(name):
    weights = on_paper(name, 7).parameters()
    assert sum(weight.numel() for weight in weights) == IN_TORCH[name].parameters


@every_torch_model
def test_layers_called_logits_alone_follow_the_number_of_classes_in_torch(name):
    seven, eight = (on_paper(name, classes).state_dict() for classes in (7, 8))
    assert seven.keys() == eight.keys()
    different = {key for key in seven if seven[key].shape != eight[key].shape}
    assert different == {key for key in seven if key.split(".")[-2] == "logits"}


@every_torch_model
def test_every_trainable_weight_in_torch_has_a_gradient(name):
    assert trained_in_torch(name).still == []


@every_torch_model
def test_a_step_lowers_the_loss_of_a_fixed_batch_in_torch(name):
    if name == "rahman2021-fusion_vote":  # has nothing to train
        assert trained_in_torch(name).losses == []
        return
    before, after = trained_in_torch(name).losses
    assert after < before


@every_torch_model
def test_weights_saved_by_torch_read_back_safely_with_the_same_outputs(name, tmp_path):
    network = trained_in_torch(name).model
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    again = on_paper(name, 7).eval()
    again.load_state_dict(load_file(tmp_path / "model.safetensors"), assign=True)
    assert torch.equal(outputs(again), outputs(network))


# ---- rahman2021 --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "parameters"),
    [("resnet18", 11_689_512), ("vgg19", 143_667_240), ("vgg19_bn", 143_678_248)],
)
def test_the_published_networks_have_the_well_known_numbers_of_weights(model, parameters):
    with torch.device("meta"):
        network = rahman2021.build(1000, model=model, side=224, channels=3)
    assert sum(weight.numel() for weight in network.parameters()) == parameters


def test_the_convolutions_of_vgg19_are_those_of_keras():
    network = rahman2021.build(model="vgg19", channels=3).features
    theirs = keras.applications.VGG19(include_top=False, weights=None, input_shape=(40, 40, 3))
    ours = [layer for layer in network if isinstance(layer, nn.Conv2d)]
    same = [layer for layer in theirs.layers if isinstance(layer, keras.layers.Conv2D)]
    for ours_layer, theirs_layer in zip(ours, same, strict=True):
        kernel = ours_layer.weight.detach().permute(2, 3, 1, 0)
        theirs_layer.set_weights([kernel.numpy(), ours_layer.bias.detach().numpy()])
    pictures = np.random.default_rng(0).random((2, 40, 40, 3), dtype=np.float32)
    with torch.inference_mode():
        found = network(torch.from_numpy(pictures).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    expected = np.asarray(theirs(pictures))
    assert expected.std() > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_the_maps_of_resnet18_have_the_sizes_written_beside_them():
    network, sides = rahman2021.build(), []
    for part in (network.stem, *network.stages):
        part.register_forward_hook(
            lambda layer, inputs, output: sides.append((output.shape[2], output.shape[1]))
        )
    with torch.inference_mode():
        network(PICTURES)
    expected = [(10, 64), (10, 64), (5, 128), (3, 256), (2, 512)]
    assert [sides[0], *sides[1::2]] == expected
    assert sides[2::2] == expected[1:]


def test_a_residual_block_that_computes_nothing_passes_on_what_it_got():
    block = rahman2021.ResidualBlock(4, 4)
    for weight in block.convolutions.parameters():
        nn.init.zeros_(weight)
    x = torch.rand(2, 4, 5, 5)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("model", ["resnet18", "vgg19_bn"])
def test_a_larger_picture_is_cropped_to_its_centre(model):
    network = trained_in_torch(f"rahman2021-{model}").model
    with torch.inference_mode():
        assert torch.equal(network(PICTURES), network(PICTURES[:, :, 4:44, 4:44]))


def fused(name: str) -> tuple[nn.Module, list[nn.Module]]:
    network = trained_in_torch(f"rahman2021-{name}").model
    return network, list(network.members)


def test_a_vote_is_the_average_of_the_members_probabilities():
    network, members = fused("fusion_vote")
    one, two = (outputs(member).softmax(1) for member in members)
    assert (one - two).abs().max() > 1e-3
    torch.testing.assert_close(outputs(network).softmax(1), (one + two) / 2)


def test_a_fusion_is_a_layer_on_the_members_outputs():
    network, members = fused("fusion_layer")
    side_by_side = torch.cat([outputs(member) for member in members], 1)
    expected = side_by_side @ network.logits.weight.T + network.logits.bias
    torch.testing.assert_close(outputs(network), expected)


@pytest.mark.parametrize(
    ("name", "trained_parts"),
    [
        ("fusion_vote", set()),
        ("fusion_layer", {"logits"}),
        ("fusion_joint", {"logits", "members"}),
    ],
)
def test_training_a_fusion_moves_what_its_name_says_and_nothing_else(name, trained_parts):
    """Running means and variances of frozen members included."""
    assert trained_in_torch(f"rahman2021-{name}").moved == trained_parts


def test_a_fusion_takes_over_trained_members():
    members = [trained_in_torch(f"rahman2021-{name}").model for name in rahman2021.MEMBERS]
    fusion = on_paper("rahman2021-fusion_vote", 7).to_empty(device="cpu").eval()
    assert rahman2021.join(fusion, members) is fusion
    for own, member in zip(fusion.members, members, strict=True):
        assert torch.equal(outputs(own), outputs(member))
    with pytest.raises(ValueError):  # noqa: PT011 - zip words it
        rahman2021.join(fusion, members[:1])


def test_an_unknown_model_is_refused_with_what_there_is():
    with pytest.raises(ValueError, match=r"'resnet50': one of resnet18, vgg19, .*fusion_joint"):
        rahman2021.build(model="resnet50")


def test_the_optimizer_is_gradient_descent_with_the_rate_asked_for():
    with torch.device("meta"):
        optimizer = rahman2021.optimizer(rahman2021.build(), 0.1)
    (group,) = optimizer.param_groups
    assert isinstance(optimizer, torch.optim.SGD)
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.1, 0.9, 5e-4)


# ---- yengikand2023 -----------------------------------------------------------------------------


def test_the_weights_of_yengikand2023_counted_by_hand():
    normal = 9 * 1 * 32 + 9 * 32 * 64 + 9 * 64 * 128
    separable = (9 * 32 + 32 * 32) + (9 * 64 + 64 * 64) + (9 * 128 + 128 * 128)
    batch_normalization = 2 * 4 * (32 + 64 + 128)  # six of them; scale, offset, mean, variance
    projections = 2 * (128 * 64 + 64)
    attention_scales = 1 + 64  # one number for the product, one a feature for the sum
    perceptron = 3 * 64 * 128 + 128
    logits = 128 * 7 + 7
    expected = (
        normal
        + separable
        + batch_normalization
        + projections
        + attention_scales
        + perceptron
        + logits
    )
    assert yengikand2023.PARAMETERS["depthwise"] == expected
    assert yengikand2023.build().count_params() == expected


def test_the_arrows_of_yengikand2023_are_those_of_its_network():
    """Read backwards: which drawn boxes feed each one, over layers that are not drawn."""
    model = yengikand2023.build()
    ends = {"image": "images", "projected": "value_projection", "values": "value_tokens"}
    ends |= {"queries": "query_tokens", "multiplied": "normal_attention"}
    ends |= {"added": "additive_attention", "merged": "pooled_tokens", "softmax": "probabilities"}
    columns, arrows = yengikand2023.layout()
    boxes = {}
    for name in (name for column in columns for name, _ in column):
        kind, _, number = name.partition(" ")
        boxes[ends.get(name) or (f"{kind}{number}_relu" if number else name)] = name

    def feeding(layer) -> set[str]:
        found = set()
        for tensor in layer.input if isinstance(layer.input, list) else [layer.input]:
            before = tensor._keras_history.operation
            found |= {boxes[before.name]} if before.name in boxes else feeding(before)
        return found

    drawn = {(start, end) for start, end, *_ in arrows}
    assert drawn == {
        (start, name)
        for layer, name in boxes.items()
        if name != "image"
        for start in feeding(model.get_layer(layer))
    }


def test_the_attentions_of_yengikand2023_follow_the_equations_of_its_chapter():
    """A projection of each output, shared by both scores; the keys are the values, too."""
    keras.utils.set_random_seed(0)
    model = yengikand2023.build(widths=(8, 8, 8), input_shape=(16, 16, 1))
    rng = np.random.default_rng(0)
    names = ("separable3_relu", "normal3_relu", "additive_attention", "normal_attention")
    for name in ("query_projection", "value_projection", *names[2:]):  # offsets begin at 0
        layer = model.get_layer(name)
        layer.set_weights([rng.normal(0, 1, one.shape) for one in layer.get_weights()])
    outputs = [model.get_layer(name).output for name in names]
    given = rng.integers(0, 256, (2, 16, 16, 1))
    h, s, added, multiplied = map(np.asarray, keras.Model(model.input, outputs)(given))

    def projected(features, name):
        kernel, offset = model.get_layer(f"{name}_projection").get_weights()
        return features.reshape(len(features), -1, features.shape[-1]) @ kernel[0, 0] + offset

    q, k = projected(h, "query"), projected(s, "value")
    (v,), (alpha,) = (model.get_layer(name).get_weights() for name in names[2:])
    scores = [np.tanh(q[:, :, None] + k[:, None]) @ v, alpha * q @ k.transpose(0, 2, 1)]
    for found, score in zip((added, multiplied), scores, strict=True):
        weights = np.exp(score - score.max(axis=-1, keepdims=True))
        expected = weights / weights.sum(axis=-1, keepdims=True) @ k
        assert np.ptp(expected, axis=1).max() > 0.01, "queries that differ ask for other values"
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("convolution", yengikand2023.VARIANTS)
def test_the_dropout_rate_reaches_every_dropout_layer(convolution):
    model = yengikand2023.build(convolution=convolution, dropout=0.3)
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates
    assert set(rates) == {0.3}


def test_dropout_is_off_in_prediction_and_on_in_training():
    model = yengikand2023.build(dropout=0.3)
    first, second = (np.asarray(model(IMAGES, training=False)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    first, second = (np.asarray(model(IMAGES, training=True)) for _ in range(2))
    assert (first != second).any()


def test_an_unknown_convolution_is_refused_with_what_there_is():
    with pytest.raises(ValueError, match="'dilated': one of depthwise, spatial, normal"):
        yengikand2023.build(convolution="dilated")


def test_bytes_and_floats_of_the_same_picture_give_the_same_probabilities():
    model = trained("yengikand2023-depthwise").model
    np.testing.assert_array_equal(
        np.asarray(model(IMAGES, training=False)),
        np.asarray(model(IMAGES.astype(np.float32), training=False)),
    )


@pytest.mark.parametrize("num_classes", [7, 8])
def test_transfer_copies_every_weight_but_those_of_the_last_layer(num_classes):
    old = trained("yengikand2023-depthwise").model
    new = yengikand2023.transfer(old, num_classes, dropout=0.1)
    assert new.output.shape == (None, num_classes)
    assert new.get_layer("dropout_features").rate == 0.1
    for layer in new.layers:
        pairs = list(zip(layer.get_weights(), old.get_layer(layer.name).get_weights(), strict=True))
        if layer.name == "logits":
            assert any(a.shape != b.shape or (a != b).any() for a, b in pairs)
        else:
            for a, b in pairs:
                np.testing.assert_array_equal(a, b, err_msg=layer.name)


def test_transfer_leaves_the_old_model_its_own_weights():
    old = trained("yengikand2023-depthwise").model
    before = [weight.copy() for weight in old.get_weights()]
    new = yengikand2023.transfer(old, 7)
    new.set_weights([weight + 1 for weight in new.get_weights()])
    for a, b in zip(old.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_transfer_refuses_another_convolution():
    old = trained("yengikand2023-depthwise").model
    with pytest.raises(ValueError):  # noqa: PT011 - Keras words it
        yengikand2023.transfer(old, 7, convolution="normal")


def test_training_is_adam_with_the_rate_asked_for():
    model = yengikand2023.build(widths=(2, 2, 2))
    assert yengikand2023.compile_model(model, 0.01) is model
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
    assert model.loss == "categorical_crossentropy"
