"""MobileNet is the one that everyone knows; what is frozen stays, what was added learns."""

import keras
import numpy as np
import pytest
from pydantic import TypeAdapter

from fer_utils import experiments
from fer_utils.manifests import load_published
from fer_utils.models import nouisser2023
from fer_utils.parameters import WEIGHTS, WeightsFile
from fer_utils.training import schedules

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 1)).astype(np.uint8)
TARGETS = np.eye(7, dtype=np.float32)[[0, 3, 5, 6]]


@pytest.fixture(scope="module")
def reference() -> keras.Model:
    """Keras' own MobileNet without its top; random weights, batch normalization included."""
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNet(
        include_top=False, weights=None, input_shape=(48, 48, 3), pooling="avg"
    )
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights(
                [rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()]
            )
    return model


@pytest.fixture(scope="module")
def headless(reference) -> keras.Model:
    return keras.Model(reference.input, reference.layers[-2].output)


@pytest.fixture(scope="module")
def weights_file(headless, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("weights") / "mobilenet.weights.h5"
    headless.save_weights(path)
    return str(path)


def features(model: keras.Model) -> np.ndarray:
    return np.asarray(keras.Model(model.input, model.get_layer("logits").input)(IMAGES))


def test_with_equal_weights_it_is_keras_own_mobilenet(reference, weights_file):
    rgb = np.repeat(IMAGES, 3, axis=3).astype(np.float32)
    expected = np.asarray(reference(keras.applications.mobilenet.preprocess_input(rgb)))
    assert np.ptp(expected) > 0.1, "features that are all alike compare nothing"
    found = features(nouisser2023.build(weights=weights_file))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("suffix", WEIGHTS)
def test_every_kind_of_file_that_the_chapter_admits_is_read(
    suffix, reference, headless, weights_file, tmp_path
):
    path = tmp_path / f"mobilenet{suffix}"
    headless.save(path)
    for admitted in (weights_file, str(path)):
        assert TypeAdapter(WeightsFile).validate_python(admitted) == admitted
    expected = features(nouisser2023.build(weights=weights_file))
    np.testing.assert_array_equal(features(nouisser2023.build(weights=str(path))), expected)


def test_the_weights_counted_by_hand(reference):
    assert reference.count_params() == 3_228_864
    logits = 1024 * 7 + 7
    changes = [(32, 64), (64, 128), (128, 256), (256, 512), (512, 1024)]
    skips = sum(before * after + 4 * after for before, after in changes)
    widths = [filters for filters, _ in nouisser2023.BLOCKS]
    # Query, key, value and output; the last two maps have one position and get none.
    attention = sum(4 * width * 8 * 64 for width in widths[:-2])
    counts = {
        "mobilenet": 3_228_864 + logits,
        "skips": 3_228_864 + logits + skips,
        "attention": 3_228_864 + logits + skips + attention,
    }
    assert counts == nouisser2023.PARAMETERS
    for side, maps in {12: [64], 6: [64, 128, 128]}.items():  # larger ones, which get none
        fewer = sum(4 * width * 8 * 64 for width in maps)
        options = {**nouisser2023.VARIANTS["attention"], "attention_from": side}
        assert nouisser2023.build(**options).count_params() == counts["attention"] - fewer


def test_maps_shrink_from_24_to_1():
    model = nouisser2023.build()
    shapes = [model.get_layer(f"conv_pw_{n}_relu").output.shape[1:] for n in range(1, 14)]
    sides = [24, 12, 12, 6, 6, 3, 3, 3, 3, 3, 3, 1, 1]
    assert shapes == [
        (side, side, filters)
        for side, (filters, _) in zip(sides, nouisser2023.BLOCKS, strict=True)
    ]  # fmt: skip


@pytest.mark.parametrize(("largest", "blocks"), [(None, 11), (24, 11), (12, 10), (6, 8), (3, 6)])
def test_attention_can_be_kept_from_the_larger_maps(largest, blocks):
    model = nouisser2023.build(skips=True, attention=True, attention_from=largest)
    found = [layer for layer in model.layers if isinstance(layer, keras.layers.MultiHeadAttention)]
    assert [layer.name for layer in found] == [
        f"attention_{number}" for number in range(12 - blocks, 12)
    ]
    assert all(layer.num_heads == 8 for layer in found)
    assert all(layer.key_dim == layer.value_dim == 64 for layer in found)


def test_a_skip_carries_what_went_into_a_block_around_it(weights_file):
    """With the last block silenced, its identity skip alone is left."""
    model = nouisser2023.build(skips=True, weights=weights_file)
    model.get_layer("conv_pw_13").set_weights([np.zeros((1, 1, 1024, 1024))])
    last = model.get_layer("conv_pw_13_bn")
    last.set_weights([np.zeros_like(weight) for weight in last.get_weights()])
    before = keras.Model(model.input, model.get_layer("skip_12").output)(IMAGES)
    assert before.shape == (4, 1, 1, 1024)
    np.testing.assert_allclose(features(model), np.mean(before, axis=(1, 2)), rtol=1e-4, atol=1e-4)


def test_a_strided_skip_reads_the_centre_of_each_window():
    model = nouisser2023.build(skips=True)
    for number, (_, stride) in enumerate(nouisser2023.BLOCKS, start=1):
        if stride == 1:
            continue
        crop = model.get_layer(f"skip_{number}_crop")
        _, side, _, channels = crop.input.shape
        row, column = np.mgrid[:side, :side]
        places = np.repeat((100 * row + column)[None, ..., None], channels, axis=3)
        read = np.asarray(crop(places.astype(np.float32)))[0, ::2, ::2, 0]
        kernel = model.get_layer(f"conv_dw_{number}")
        pad = model.get_layer(f"conv_pad_{number}")
        weights = np.zeros((3, 3, channels, 1), np.float32)
        weights[1, 1] = 1  # a window that passes its centre on
        kernel.set_weights([weights])
        np.testing.assert_array_equal(read, kernel(pad(places.astype(np.float32)))[0, ..., 0])


def test_frozen_weights_stay_and_all_others_learn(reference, weights_file):
    keras.utils.set_random_seed(2)
    model = nouisser2023.build(
        skips=True, attention=True, attention_from=6, weights=weights_file
    )  # fmt: skip
    nouisser2023.compile_model(model)
    model.run_eagerly = True  # one step alone: building the graph would take longer
    before = [weight.numpy().copy() for weight in model.weights]
    model.train_on_batch(IMAGES, TARGETS)
    frozen = {layer.name for layer in reference.layers}
    moved = {
        weight.path.split("/")[0]
        for weight, old in zip(model.weights, before, strict=True)
        if (weight.numpy() != old).any()
    }
    assert not moved & frozen
    added = {layer.name for layer in model.layers if layer.weights} - frozen
    assert moved == added
    assert {"logits", "skip_1_conv", "skip_1_bn", "attention_11"} <= added


def test_from_scratch_nothing_is_frozen():
    model = nouisser2023.build(skips=True, attention=True)
    assert all(layer.trainable for layer in model.layers)


def test_weights_that_are_not_there_are_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.h5"):
        nouisser2023.build(weights=str(tmp_path / "nowhere.h5"))


# ---- what the chapter says of our choices -------------------------------------------------------


def reason(of: str) -> str:
    (detail,) = (one for one in load_published("nouisser2023").open if one.id == of)
    return " ".join(detail.reason.split())


def test_the_layers_that_the_text_counts_are_those_of_the_blocks():
    (cell,) = (one for one in load_published("nouisser2023").cells if one.metric == "layers")
    model = nouisser2023.build()
    kinds = ("conv_dw_", "conv_pw_")
    found = [
        layer.name
        for layer in model.layers
        if layer.name.startswith(kinds) and not layer.name.endswith(("_bn", "_relu"))
    ]
    assert len(found) == 2 * len(nouisser2023.BLOCKS) == cell.value


def test_the_projection_is_as_large_and_as_needed_as_the_chapter_says():
    assert "holds a quarter of an attention's weights" in reason("attention")
    model = nouisser2023.build(**nouisser2023.VARIANTS["attention"])
    for number in range(1, 12):
        layer = model.get_layer(f"attention_{number}")
        shapes = {weight.path.split("/")[-2]: weight.shape for weight in layer.weights}
        assert np.prod(shapes["attention_output"]) == layer.count_params() / 4
        assert shapes["attention_output"][-1] == nouisser2023.BLOCKS[number - 1][0]
    assert "fit without it onto the blocks of 512 channels alone" in reason("attention")
    assert nouisser2023.HEADS * nouisser2023.UNITS == 512
    boxes, arrows = nouisser2023.attention_layout()
    assert {name for arrow in arrows for name in arrow[:2]} == set(boxes)
    joined, projected = f"{nouisser2023.HEADS} heads\njoined", "projection\n(ours)"
    assert {(joined, projected), (projected, "sum"), ("block", "sum", "skip")} <= {*arrows}
    assert (joined, "sum") not in arrows


def test_the_rate_ends_where_the_chapter_says():
    """Two halvings since the lowest loss, and more if it had stagnated before."""
    told = reason("plateau")
    assert "ends at 0.00025, as section 4.2 has it, where the loss had not stagnated for 5" in told
    assert "where it had, it ends lower" in told
    rate = schedules.plateau(0.001, factor=0.5, patience=5, stop_after=15)
    falls, stagnates, falls_again = [3.0, 2.0], [2.5] * 5, [1.0]
    for before, last in ((falls, 0.00025), ([*falls, *stagnates, *falls_again], 0.000125)):
        losses = [*before, *[4.0] * 14]
        assert rate({"val_loss": losses}) == pytest.approx(last)
        assert rate({"val_loss": [*losses, 4.0]}) is None


def test_what_is_said_of_near_miss_and_its_one_m_is_what_the_records_say():
    told = experiments.found_beside("nouisser2023", "preparation")
    hog, whole = (told[f"fer2013-{faces}-train"]["near_miss"] for faces in ("hog", "none"))

    def sets_m(near_miss: dict) -> str:
        return max(near_miss["steps"], key=lambda name: near_miss["steps"][name]["own_m"])

    def left(near_miss: dict, step: str, before: str = "images") -> dict[str, float]:
        return {name: of[step] / of[before] for name, of in near_miss["steps"].items()}

    said = reason("near-miss")
    assert "detector anger sets m, since nearly all of its images are to stay" in said
    assert (sets_m(hog), left(hog, "second")["anger"] > 0.95) == ("anger", True)
    assert "leaves nearly all images of happiness and neutral as well" in said
    assert set(hog["steps"]) == {"anger", "happiness", "neutral"}
    assert min(left(hog, "first").values()) > 0.95
    assert "On whole images surprise sets m, and both steps choose" in said
    assert sets_m(whole) == "surprise"
    assert left(whole, "first")["happiness"] < 0.75
    assert left(whole, "second", "first")["happiness"] < 0.75
    assert "with it the first step would choose almost alone" in said
    for near_miss in (hog, whole):
        assert min(left(near_miss, "second", "first_own_m").values()) > 0.95
    believe = " ".join(load_published("nouisser2023").report.believe.split())
    assert "its first step leaves nearly every image of the faces that dlib's detector" in believe
    steps = hog["steps"].values()
    assert sum(of["first"] for of in steps) / sum(of["images"] for of in steps) > 0.95
    counts = told["fer2013-hog-train"]["balanced"]
    assert min(counts, key=lambda name: counts[name]["before"]) == "disgust"
    assert "its second keeps those farthest from disgust" in believe


def test_the_third_model_is_printed_best_in_every_column():
    published = load_published("nouisser2023")
    (table,) = (one for one in published.tables if one.id == "Table 3")
    best = {one.best: set(one.others) for one in published.claims if one.id.startswith("best-")}
    for name in ("accuracy", "recall", "precision"):
        others = {
            cell.id
            for cell in table.cells
            if cell.id.endswith(name) and cell.value is not None and "attention" not in cell.id
        }
        assert best[f"table3-attention-{name}"] == others
