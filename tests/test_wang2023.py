"""What wang2023 says of its network and loss, held against what is built."""

import keras
import numpy as np
import pytest

from fer_utils.models import wang2023

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (4, 48, 48, 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return wang2023.compile_model(wang2023.build())


def outputs(model, layer, images=IMAGES):
    part = keras.Model(model.input, model.get_layer(layer).output)
    return np.asarray(part(images, training=False))


def test_the_weights_counted_by_hand():
    def se(channels):
        return 2 * channels * max(channels // 8, 8)

    def module(inputs, width):
        quarter = width // 4
        branches = (1 + 9 + 25 + 1) * inputs * quarter + 4 * (4 * quarter + se(quarter))
        projection = inputs * width if inputs != width else 0
        return branches + 9 * width * width + 4 * width + se(width) + projection

    stem = 9 * 24 + 4 * 24 + se(24)
    modules = module(24, 24) + module(24, 48) + module(48, 96)
    assert wang2023.PARAMETERS["full"] == stem + modules + 96 * 7 + 7


def test_maps_shrink_between_the_modules_and_not_inside(model):
    sides = [outputs(model, f"module{number}_relu").shape[1:] for number in (1, 2, 3)]
    assert sides == [(24, 24, 24), (12, 12, 48), (6, 6, 96)]
    for number, (side, _, width) in enumerate(sides, start=1):
        joined = outputs(model, f"module{number}_scale_joined").shape[1:]
        assert joined == (side, side, width)


def test_squeeze_and_excitation_is_equations_1_to_3(model):
    u = outputs(model, "stem_relu")
    reduce, excite = (model.get_layer(f"stem_se_{name}") for name in ("reduce", "excite"))
    z = u.mean(axis=(1, 2))
    hidden = np.maximum(z @ reduce.get_weights()[0], 0)
    s = 1 / (1 + np.exp(-hidden @ excite.get_weights()[0]))
    np.testing.assert_allclose(
        outputs(model, "stem_se_scale"), s[:, None, None, :] * u, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("variant", wang2023.VARIANTS)
def test_table_3_takes_se_and_bn_out_of_the_branches_alone(variant):
    options = {"se": True, "bn": True} | wang2023.VARIANTS[variant]
    layers = {layer.name for layer in wang2023.build(**options).layers}
    branches = [
        f"module{n}_scale{branch}" for n in (1, 2, 3) for branch in ("1", "3", "5", "_pooled")
    ]
    assert {f"{branch}_conv" for branch in branches} < layers
    assert [f"{branch}_se_scale" in layers for branch in branches] == [options["se"]] * 12
    assert [f"{branch}_bn" in layers for branch in branches] == [options["bn"]] * 12
    outside = {f"module{n}_{kind}" for n in (1, 2, 3) for kind in ("bn", "se_scale")}
    assert outside | {"stem_bn", "stem_se_scale"} < layers


def test_images_are_standardized_as_keras_own_generator_does(model):
    legacy = pytest.importorskip("keras.src.legacy.preprocessing.image")
    with pytest.warns(UserWarning, match="samplewise_center"):
        generator = legacy.ImageDataGenerator(samplewise_std_normalization=True)
    theirs = np.stack([generator.standardize(image.astype(np.float32)) for image in IMAGES])
    np.testing.assert_allclose(outputs(model, "standardized"), theirs, atol=1e-5)


def test_light_and_contrast_of_an_image_do_not_matter(model):
    darker = 0.5 * IMAGES.astype(np.float32) + 20
    np.testing.assert_allclose(
        np.asarray(model(darker, training=False)),
        np.asarray(model(IMAGES, training=False)),
        atol=1e-5,
    )


def test_an_image_of_a_single_grey_gives_probabilities():
    blank = np.full((1, 48, 48, 1), 77, np.uint8)
    assert np.asarray(wang2023.build()(blank, training=False)).sum() == pytest.approx(1)


def test_the_loss_is_equation_4_averaged_over_images(model):
    labels = np.eye(7, dtype=np.float32)[[0, 3, 3, 6]]
    probabilities = RNG.dirichlet(np.ones(7), 4).astype(np.float32)
    norms = np.linalg.norm(labels, axis=1) * np.linalg.norm(probabilities, axis=1)
    expected = -np.mean((labels * probabilities).sum(axis=1) / norms)
    assert float(model.compute_loss(y=labels, y_pred=probabilities)) == pytest.approx(expected)


def test_the_loss_is_lowest_where_label_and_prediction_agree(model):
    labels = np.eye(7, dtype=np.float32)
    assert float(model.compute_loss(y=labels, y_pred=labels)) == pytest.approx(-1)
    wrong = np.roll(labels, 1, axis=0)
    assert float(model.compute_loss(y=labels, y_pred=wrong)) == pytest.approx(0)


def test_drawing_a_label_teaches_on_average_what_the_shares_teach_weighted_by_their_length(model):
    shares = np.array([0.5, 0.3, 0.2, 0, 0, 0, 0], np.float32)
    probabilities = RNG.dirichlet(np.ones(7)).astype(np.float32)

    def loss(target):
        return float(model.compute_loss(y=target[None], y_pred=probabilities[None]))

    drawn = sum(share * loss(label) for share, label in zip(shares, np.eye(7), strict=True))
    assert drawn == pytest.approx(np.linalg.norm(shares) * loss(shares))


def test_r_is_8_in_every_block_where_the_least_number_of_units_allows_it():
    def hidden(model):
        layers = [layer for layer in model.layers if layer.name.endswith("_reduce")]
        return {layer.name: (layer.kernel.shape[0], layer.units) for layer in layers}

    ours, eighths = hidden(wang2023.build()), hidden(wang2023.build(least_units=1))
    assert len(eighths) == len(ours) == 16
    assert all(units == max(channels // 8, 1) for channels, units in eighths.values())
    assert [name for name in ours if ours[name] == eighths[name]] == ["module3_se_reduce"]
