"""The grid asks for what the published files ask for, and knows what is there already."""

import inspect
import json
import re
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace

import pytest
import trees
from pydantic import ValidationError

from fer_utils import grid, provenance, records
from fer_utils.grid.asked import Request
from fer_utils.manifests import RunNeeds, Speed, load_manifest, load_published, published_papers
from fer_utils.summary import Recorded
from fer_utils.training import torch_loop

PAPER = "yengikand2023"


def recorded(
    run: grid.Run,
    *,
    code: str | None = None,
    loaded: str | None = None,
    sources: dict[str, str] | None = None,
    training: float = 1000.0,
    **changes,
) -> Recorded:
    """What the summary has of a run as it would be made now."""
    chapter = grid.read_chapter(run.paper)
    made = Recorded(
        path=None,
        paper=run.paper,
        run=f"{run.label}-made",
        profile=run.profiles[0],
        parameters={"learning_rate": 0.001, **run.fields},
        seed=run.fields["seed"],
        data=SimpleNamespace(
            name=run.dataset, sha256="0" * 64, loaded=loaded, sources=sources or {}
        ),
        split=SimpleNamespace(sha256="0" * 64, trained_on=28_709),
        selection=None,
        metrics={"test": {}},
        persons=None,
        epochs=20,
        timings={"training": training, "prediction": 10.0},
        device={"kind": "cpu", "threads": 1},
        versions=provenance.versions(),
        code=SimpleNamespace(sha256=code or chapter.code, entry_points=chapter.entry_points),
        created="2026-01-01T00:00:00+00:00",
        probabilities=None,
    )
    return replace(made, **changes)


def plan(*there: Recorded, **options) -> list[grid.Run]:
    return grid.plan([PAPER], recorded=there, **{"seeds": (0,), **options})


@pytest.fixture
def jaffe(monkeypatch, tmp_path):
    """The first run on JAFFE, whose manifest knows no hash, with files where data would be."""
    for name in ("jaffe/a.tiff", "fer2013/fer2013.csv"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"something")
    monkeypatch.setenv("FER_DATA", str(tmp_path))
    grid.data_key.cache_clear()
    yield next(run for run in plan() if run.dataset == "jaffe")
    grid.data_key.cache_clear()


def test_every_entry_that_names_a_data_set_is_asked_for_by_a_run():
    for paper in published_papers():
        published = load_published(paper)
        runs = grid.plan([paper], recorded=(), seeds=(0,))
        asked = [cell.select for cell in published.cells if not cell.not_comparable]
        asked += [fields for cell in published.cells for fields in cell.also.values()]
        asked += [fields for detail in published.open for fields in detail.other.values()]
        for fields in asked:
            chosen = {key: fields[key] for key in fields if key not in grid.READING}
            if "dataset" not in chosen:
                continue
            defaults = grid.read_chapter(paper).parameters
            chosen = records.APART | chosen  # what stands apart answers those alone who name it
            assert any(
                all({**defaults, **run.fields}.get(key) == value for key, value in chosen.items())
                for run in runs
            ), (paper, fields)


def test_a_published_entry_with_a_parameter_that_its_chapter_lacks_is_refused(monkeypatch):
    """Else the runs would be made and could answer nothing."""
    fields = {"dataset": "fer2013", "convolutoin": "normal"}
    asked = [Request(PAPER, fields, 1, ["Table II: Our model, Fer2013, another"])]
    monkeypatch.setattr("fer_utils.grid.requests_of", lambda paper, table: asked)
    told = "another: its chapter has no parameter 'convolutoin'; did you mean 'convolution'?"
    with pytest.raises(grid.GridError, match=re.escape(told)):
        plan()


# Without these no run can differ: they need another value of what an entry names, or of what
# stands apart.
ONLY_WITH_OTHERS = {
    "nouisser2023": {"attention_from"},  # variant
    "wang2023": {"mode", "keep"},  # dataset
    "yengikand2023": {"pretraining", "choose_on", "width_multiplier"},  # contrast, reading
}
OF_A_CALL = {"profile", "data_root", "output_dir", "records_dir", "threads", "images"}


def test_every_entry_names_all_that_runs_may_differ_in():
    """Else a run of one's own with another value would count for it."""
    for paper in published_papers():
        published, chapter = load_published(paper), grid.read_chapter(paper)
        entries = [(cell.id, cell.select) for cell in published.cells if not cell.not_comparable]
        entries += [(c.id, fields) for c in published.cells for fields in c.also.values()]
        for detail in published.open:
            every = (detail.ours, *detail.other.values())
            entries += [(detail.id, fields) for fields in every]
        needless = OF_A_CALL | {"seed", "fold", "reading", *ONLY_WITH_OTHERS.get(paper, ())}
        for name, fields in entries:
            if "dataset" in fields:
                assert chapter.parameters.keys() - fields.keys() <= needless, (paper, name)


def test_another_choice_that_would_count_for_a_number_is_refused(monkeypatch):
    """A verdict reads all runs with what its cell names."""
    fields = {"dataset": "fer2013", "convolution": "depthwise"}
    beside = fields | {"dropout": 0.5}

    def ask(cell, other):
        asked = [Request(PAPER, cell, 0, ["the number"]), Request(PAPER, other, 2, ["a choice"])]
        monkeypatch.setattr("fer_utils.grid.requests_of", lambda paper, table: asked)
        return plan()

    told = "a choice: its dropout is 0.5, and the number names none, so its runs would count there"
    with pytest.raises(grid.GridError, match=re.escape(told)):
        ask(fields, beside)
    assert len(ask(fields | {"dropout": 0.2}, beside)) == 2
    assert len(ask(fields, beside | {"reading": "another"})) == 2
    assert len(ask(fields, fields | {"dropout": 0.2})) == 1  # as the chapter has it


def test_weights_are_those_of_a_run_with_the_same_parameters():
    """Among open details stands a ResNet18 in float32; a fusion's members are not."""
    name = next(
        run.name
        for run in grid.plan(["rahman2021"], table="open", recorded=(), seeds=(0,))
        if run.fields["model"] == "fusion_vote"
    )
    for table in ("open", None):
        runs = {
            run.name: run
            for run in grid.plan(["rahman2021"], table=table, recorded=(), seeds=(0,), only=[name])
        }
        firsts = [runs[first] for first in runs[name].first]
        assert {run.fields["model"] for run in firsts} == {"resnet18", "vgg19_bn"}
        same = ("precision", "learning_rate", "padding", "epochs", "batch_size", "crops")
        for run in firsts:
            assert all(run.fields[key] == runs[name].fields[key] for key in same)


def test_one_run_answers_every_cell_that_it_can():
    runs = grid.plan(["rahman2021"], recorded=(), seeds=(0,))
    (short,) = (
        run
        for run in runs
        if run.fields["model"] == "resnet18" and run.fields["epochs"] == 20 and run.rank == 0
    )
    table = next(table for table in load_published("rahman2021").tables if table.id == "Table 5.1")
    same = [cell.id for cell in table.cells if cell.select.get("epochs") == 20]
    assert set(same) <= set(short.cells)


def test_runs_that_this_processor_is_slow_at_are_counted(monkeypatch):
    runs = grid.plan(["rahman2021", PAPER], recorded=(), seeds=(0,))
    of_paper = [run for run in runs if run.paper == "rahman2021"]
    exact = [run for run in of_paper if run.fields.get("precision") == "float32"]
    monkeypatch.setattr(torch_loop, "in_software", lambda precision: precision == "bfloat16")
    assert grid.slow_here(runs) == {"rahman2021": (len(of_paper) - len(exact), "bfloat16", 20)}
    assert exact
    assert grid.slow_here(exact) == {}
    assert grid.slow_here(grid.smoke_runs(runs, (0,))) == {}, "on synthetic faces it is float32"
    monkeypatch.setattr(torch_loop, "in_software", lambda precision: False)
    assert grid.slow_here(runs) == {}


def test_folds_and_seeds_multiply_and_the_most_valuable_comes_first():
    runs = plan(seeds=(0, 1))
    assert [run.rank for run in runs] == sorted(run.rank for run in runs)
    jaffe = [run for run in runs if run.dataset == "jaffe"]
    assert {(run.fields["fold"], run.fields["seed"]) for run in jaffe} == {
        (fold, seed) for fold in range(10) for seed in (0, 1)
    }
    assert len({run.name for run in runs}) == len(runs)


def test_a_run_stands_after_the_one_it_starts_from_with_the_same_seed():
    runs = plan(seeds=(0, 1))
    place = {run.name: number for number, run in enumerate(runs)}
    by_name = {run.name: run for run in runs}
    small = [run for run in runs if run.dataset in ("ck48", "jaffe")]
    alone = [run for run in small if run.fields.get("pretraining") == "none"]
    assert alone
    assert not any(run.first for run in alone)
    for run in small:
        if run in alone:
            continue
        (first,) = run.first
        assert place[first] < place[run.name]
        assert by_name[first].fields["seed"] == run.fields["seed"]
        assert by_name[first].dataset == "fer2013"


def test_a_run_joins_where_another_needs_its_weights():
    runs = plan(table="table2-ours-ckplus")
    assert "fer2013" in {run.dataset for run in runs}
    assert any(run.answers[0].startswith("weights for ck48") for run in runs)


def test_table_and_paper_narrow_the_grid_and_wrong_ones_are_named():
    assert {run.rank for run in plan(table="open")} == {2}
    assert {run.rank for run in plan(table="Table II")} == {0, 1}
    with pytest.raises(grid.GridError, match="TABLE=Table IX: one of Table II, a"):
        plan(table="Table IX")
    with pytest.raises(grid.GridError, match="PAPER=smith2024: one of"):
        grid.chosen("smith2024")
    with pytest.raises(grid.GridError, match="SEEDS=first"):
        grid.chosen(PAPER, seeds="first")
    with pytest.raises(grid.GridError, match="ONLY=,: beginnings of runs' names"):
        grid.chosen(PAPER, only=",")
    with pytest.raises(grid.GridError, match="TABLE=Section III: no run is for it"):
        plan(table="Section III")
    for seeds in ("-1", "1.5", "", 2**32):
        with pytest.raises(grid.GridError, match=rf"^SEEDS={seeds}: whole numbers.* such as 0 1 2"):
            grid.chosen(PAPER, seeds=seeds)
    with pytest.raises(grid.GridError, match=r"^PAPER=: one or several of nouisser2023"):
        grid.chosen("")
    with pytest.raises(grid.GridError, match=r'^TABLE=: a table such as "Table II"'):
        grid.chosen(PAPER, table="")


def with_needs(monkeypatch, **needs):
    """The paper's published file with other needs of its runs."""
    runs = RunNeeds.model_validate(needs)
    published = load_published(PAPER).model_copy(update={"runs": runs})
    for module in (grid, grid.needs, grid.order):
        monkeypatch.setattr(module, "load_published", lambda paper: published)


def test_runs_that_would_start_from_themselves_are_named(monkeypatch):
    with_needs(monkeypatch, first=[{"for": {"dataset": ["jaffe"]}, "run": {"dataset": "jaffe"}}])
    told = f"{PAPER}, runs: by first and after jaffe-.* starts from itself"
    with pytest.raises(grid.GridError, match=told):
        plan()


@pytest.mark.parametrize("kind", ["first", "after", "prepare", "speed", "slow_without"])
def test_a_rule_about_a_parameter_that_no_run_has_is_refused(monkeypatch, kind):
    """It would be about no run, ever, without a word."""
    rule = {"for": {"datset": ["jaffe"]}}
    rule |= {
        "first": {"run": {"dataset": "fer2013"}},
        "after": {"run": {"dataset": "fer2013"}},
        "prepare": {"call": "fer_utils.metrics:score"},
        "speed": {"seconds": 1},
        "slow_without": {"format": "bfloat16", "times": 2},
    }[kind]
    with_needs(monkeypatch, **{kind: rule if kind == "slow_without" else [rule]})
    told = f"{PAPER}, runs: its chapter has no parameter 'datset'; did you mean 'dataset'?"
    with pytest.raises(grid.GridError, match=re.escape(told)):
        plan()


@pytest.mark.parametrize("kind", ["first", "after"])
def test_a_parameter_that_no_run_has_cannot_be_set_for_those_before_it(monkeypatch, kind):
    rule = {"for": {"dataset": ["jaffe"]}, "run": {"dataset": "fer2013", "epoch": 20}}
    with_needs(monkeypatch, **{kind: [rule]})
    with pytest.raises(grid.GridError, match="no parameter 'epoch'; did you mean 'epochs'"):
        plan()


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"call": "nowhere:blur"}, "cannot call 'nowhere:blur': nowhere: no such module"),
        ({"call": "blur"}, "cannot call 'blur': "),
        (
            {"call": "fer_utils.metrics:score", "with": {"side": "sied"}},
            "its chapter has no parameter 'sied'",
        ),
    ],
)
def test_a_preparation_that_cannot_be_made_is_named_before_any_run(monkeypatch, rule, told):
    with_needs(monkeypatch, prepare=[{"for": {"dataset": ["jaffe"]}, **rule}])
    with pytest.raises(grid.GridError, match=f"{PAPER}, runs.prepare: {told}"):
        plan()


@pytest.fixture
def without_data(monkeypatch, tmp_path):
    """No data set at hand: with them, a recorded run whose weights others need is to be made."""
    monkeypatch.setenv("FER_DATA", str(tmp_path))
    grid.data_key.cache_clear()
    yield
    grid.data_key.cache_clear()


@pytest.mark.usefixtures("without_data")
def test_committed_records_are_seen_as_the_verdicts_see_them():
    recorded = {run.why for run in grid.plan() if run.state == "recorded"}
    checked = 0
    for paper in published_papers():
        framework = grid.read_chapter(paper).framework
        every = records.read_all(paper)
        stale = records.stale(every)
        assert recorded.isdisjoint(stale)
        asked = [cell.select for cell in load_published(paper).cells if "dataset" in cell.select]
        for run in records.latest(every):
            counts = run.profile == "full" and run.seed in grid.SEEDS and run.run not in stale
            answers = any(
                all(run.parameters.get(key) == fields.get(key) for key in (*fields, *records.APART))
                for fields in asked
            )
            other = provenance.differing(run.versions, provenance.versions(), framework)
            if counts and answers and not other:
                assert run.run in recorded, f"{run.run} would be made again"
                checked += 1
    assert checked


def test_a_record_of_now_leaves_nothing_to_do(jaffe):
    told = {run.name: run for run in plan(recorded(jaffe))}[jaffe.name]
    assert (told.state, told.why) == ("recorded", f"{jaffe.label}-made")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"code": "1" * 64}, "its code or data have changed"),
        ({"versions": provenance.versions() | {"keras": "0.1"}}, "made with keras 0.1, now "),
        ({"profile": "reduced"}, "no record"),
        ({"parameters": {"dataset": "jaffe", "fold": 0, "seed": 0, "epochs": 3}}, "no record"),
        ({"contrast": "epoch chosen on the test part"}, "no record"),
        ({"reading": "another"}, "no record"),
    ],
)
def test_code_versions_profile_parameters_and_contrast_count(jaffe, changes, why):
    apart = records.APART.keys() & changes.keys()
    made = recorded(jaffe, **{key: value for key, value in changes.items() if key not in apart})
    made.parameters.update({key: changes[key] for key in apart})
    told = {run.name: run for run in plan(made)}[jaffe.name]
    assert told.why.startswith(why)
    assert told.state == "to run"


def test_what_balances_counts_where_a_record_tells_its_version(jaffe):
    def told(version):
        versions = {**provenance.versions(), "imbalanced-learn": version}
        versions = {name: found for name, found in versions.items() if found}
        return {run.name: run for run in plan(recorded(jaffe, versions=versions))}[jaffe.name]

    assert told("0.1").why.startswith("made with imbalanced-learn 0.1, now ")
    assert told(None).state == "recorded"


def test_versions_of_the_other_framework_and_of_a_gpus_builds_do_not_count(jaffe):
    for changes in (
        {"versions": provenance.versions() | {"torch": "0.1", "python": "3.1"}},
        {"versions": {"keras": "0.1"}, "device": {"kind": "cuda"}},
    ):
        told = {run.name: run for run in plan(recorded(jaffe, **changes))}[jaffe.name]
        assert told.state == "recorded"


@pytest.mark.parametrize(
    ("arrays", "loaded", "files", "same"),
    [
        (["1" * 64], "1" * 64, "b" * 64, True),  # the same images out of another file
        (["3" * 64, "1" * 64], "1" * 64, "a" * 64, True),  # loaded with another option
        (["1" * 64], "2" * 64, "a" * 64, False),
        (["0" * 64], None, "b" * 64, True),  # nothing was done to what was loaded
        (None, "2" * 64, "a" * 64, True),  # a check that has no arrays compares files
        (None, "1" * 64, "b" * 64, False),
    ],
)
def test_a_record_counts_where_a_check_has_found_its_data(
    jaffe, monkeypatch, tmp_path, arrays, loaded, files, same
):
    found = {"sources": {"a.tiff": files}, "arrays": arrays}
    (tmp_path / "found.json").write_text(json.dumps(found))
    monkeypatch.setattr("fer_utils.grid.recorded.checked_data", lambda *of: tmp_path / "found.json")
    made = recorded(jaffe, loaded=loaded, sources={"a.tiff": "a" * 64})
    told = {run.name: run for run in plan(made)}[jaffe.name]
    assert (told.state == "recorded") == same
    assert same or told.why == "its data have changed"


def test_runs_of_ones_own_data_count_where_a_check_has_found_these(jaffe, monkeypatch, tmp_path):
    """Also where the manifest knows others: else they would be planned for ever."""
    made = recorded(jaffe, loaded="1" * 64)
    monkeypatch.setattr(records, "_other_data", lambda run: True)
    monkeypatch.setattr("fer_utils.grid.recorded.checked_data", lambda *of: tmp_path / "found.json")
    told = {run.name: run for run in plan(made)}[jaffe.name]
    assert told.why == "its code or data have changed"
    (tmp_path / "found.json").write_text(json.dumps({"sources": {}, "arrays": ["1" * 64]}))
    assert {run.name: run for run in plan(made)}[jaffe.name].state == "recorded"


def test_what_the_workflow_did_not_leave_is_no_finished_run(jaffe, monkeypatch, tmp_path):
    done = tmp_path / "done.json"
    done.write_text("")
    monkeypatch.setattr("fer_utils.grid.recorded.done_file", lambda run: done)
    assert {run.name: run for run in plan()}[jaffe.name].state == "to run"


def test_a_seed_does_not_move_what_a_run_is_expected_to_cost(jaffe):
    """The middle of the records that are as much alike."""
    others = [
        replace(
            recorded(jaffe, training=training, seed=seed),
            run=f"other-{seed}",
            parameters={**jaffe.fields, "seed": seed, "dropout": 0.5},
        )
        for seed, training in enumerate((4000.0, 1000.0, 1600.0))
    ]
    expected = {
        run.fields["seed"]: run.seconds
        for run in grid.plan([PAPER], recorded=others, seeds=(0, 1, 2))
        if run.label.replace(f"seed{run.fields['seed']}", "seed0") == jaffe.label
    }
    assert expected == dict.fromkeys((0, 1, 2), 1610.0)


def test_a_run_whose_record_is_gone_is_made_again(jaffe, monkeypatch, tmp_path):
    done = tmp_path / "done.json"
    done.write_text(json.dumps({"run": f"{jaffe.label}-made"}))
    monkeypatch.setattr("fer_utils.grid.recorded.done_file", lambda run: done)
    of_other_code = recorded(jaffe, code="1" * 64)
    assert {run.name: run for run in plan(of_other_code)}[jaffe.name].state == "done"
    assert {run.name: run for run in plan()}[jaffe.name].state == "to run"


def test_another_file_of_the_data_is_another_run(jaffe, tmp_path):
    (tmp_path / "jaffe" / "a.tiff").write_bytes(b"another one")
    grid.data_key.cache_clear()
    assert jaffe.name not in {run.name for run in plan()}


def test_files_below_linked_folders_are_seen_as_the_loaders_see_them(monkeypatch, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data" / "CK+48").mkdir(parents=True)
    (tmp_path / "data" / "CK+48" / "happy").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "round").symlink_to(tmp_path / "data")  # in a circle
    monkeypatch.setenv("FER_DATA", str(tmp_path / "data"))
    keys = []
    for content in (b"something", b"another one"):
        (tmp_path / "elsewhere" / "S010_004_00000017.png").write_bytes(content)
        grid.data_key.cache_clear()
        keys.append(grid.data_key("ck48"))
    grid.data_key.cache_clear()
    assert None not in keys
    assert len(set(keys)) == 2


@pytest.mark.usefixtures("jaffe")
def test_a_check_is_of_the_files_the_manifest_and_the_loader(monkeypatch):
    names = {grid.checked_data("jaffe")}
    monkeypatch.setattr("fer_utils.grid.inputs._loader", lambda: "another")
    names.add(grid.checked_data("jaffe"))
    monkeypatch.setattr("fer_utils.grid.inputs.data_state", lambda dataset: ["key", "manifest"])
    names.add(grid.checked_data("jaffe"))
    assert len(names) == 3


def test_a_run_waits_for_the_data_of_a_recorded_one_whose_weights_it_needs(jaffe, tmp_path):
    first = next(run for run in plan() if run.name == jaffe.first[0])
    there = recorded(first)
    there.data.sha256 = next(iter(load_manifest("fer2013").arrays))
    told = {run.name: run for run in plan(there)}
    assert (told[first.name].state, told[first.name].why) == ("to run", grid.order.FOR_WEIGHTS)
    assert told[jaffe.name].state == "to run"
    (tmp_path / "fer2013" / "fer2013.csv").unlink()
    grid.data_key.cache_clear()
    on_jaffe = [run for run in plan(there) if run.dataset == "jaffe" and run.first]
    assert {run.state for run in on_jaffe} == {"absent"}
    assert {run.why for run in on_jaffe} == {"fer2013 is not under FER_DATA"}


@pytest.mark.usefixtures("jaffe")
def test_weights_that_are_here_are_not_made_again(jaffe, monkeypatch, tmp_path):
    first = next(run for run in plan() if run.name == jaffe.first[0])
    there = recorded(first, parameters={**first.fields, "epochs": 20})
    there.data.sha256 = next(iter(load_manifest("fer2013").arrays))
    monkeypatch.setattr("fer_utils.grid.order.BUILD", tmp_path)
    folder = tmp_path / PAPER / "runs" / there.run
    folder.mkdir(parents=True)

    def state(epoch: int) -> str:
        told = {"epoch": epoch, "best": "epoch-0009.keras"}
        (folder / "state.json").write_text(json.dumps(told))
        return next(run.state for run in plan(there) if run.name == first.name)

    assert state(20) == "to run"  # what it names is not here
    (folder / "epoch-0009.keras").write_bytes(b"weights")
    assert state(19) == "to run"
    assert state(20) == "recorded"


def test_what_starts_from_changed_weights_is_made_again(jaffe):
    first = next(run for run in plan() if run.name == jaffe.first[0])
    for why, state in (
        ("its data have changed", "to run"),
        (grid.NO_RECORD, "recorded"),
        (grid.FOR_WEIGHTS, "recorded"),
    ):
        changed = replace(first, state="to run", why=why)
        told = grid.with_first([changed, replace(jaffe, state="recorded", why="made")])
        assert told[-1].state == state
    assert told[-1].why == "made"


def test_weights_that_nothing_is_to_start_from_are_not_made(jaffe):
    first = next(run for run in plan() if run.name == jaffe.first[0])
    of_others = replace(first, state="to run", answers=(f"weights for {jaffe.label}",))
    made = replace(jaffe, state="recorded", why="made")
    (left,) = grid.with_first([of_others, made])
    assert (left.name, left.first) == (jaffe.name, ())
    assert len(grid.with_first([of_others, replace(jaffe, state="to run")])) == 2
    assert len(grid.with_first([replace(first, state="to run"), made])) == 2


def test_litter_is_no_data_and_votes_alone_are_no_images(monkeypatch, tmp_path):
    monkeypatch.setenv("FER_DATA", str(tmp_path))
    (tmp_path / "jaffe").mkdir()
    (tmp_path / "jaffe" / ".DS_Store").write_bytes(b"litter")
    trees.fer2013(tmp_path)
    grid.data_key.cache_clear()
    found = {name: grid.data_key(name) for name in ("fer2013", "ferplus", "jaffe", "ckplus")}
    trees.ferplus(tmp_path)
    grid.data_key.cache_clear()
    assert grid.data_key("ferplus")
    (tmp_path / "fer2013" / "fer2013.csv").unlink()
    grid.data_key.cache_clear()
    assert grid.data_key("ferplus") is None
    grid.data_key.cache_clear()
    assert [name for name, key in found.items() if key] == ["fer2013"]


def test_absent_data_are_told_and_nothing_is_run(monkeypatch, tmp_path):
    monkeypatch.setenv("FER_DATA", str(tmp_path))
    grid.data_key.cache_clear()
    assert {run.state for run in plan()} == {"absent"}
    grid.data_key.cache_clear()


def test_cost_is_that_of_the_record_most_alike_in_proportion():
    (run,) = (run for run in plan(table="table2-ours-fer2013") if run.rank == 0)
    made = recorded(replace(run, fields={**run.fields, "seed": 1}))
    half = recorded(replace(run, fields={"dataset": "ck48", "seed": 1}), training=1.0)
    calls = [{"kind": "gpu", "threads": 1}, {"kind": "cpu", "threads": 1}]
    elsewhere = [
        replace(made, timings={"training": 10.0}, device=device)
        for device in (
            {"kind": "cuda"},
            {"kind": "mixed", "calls": calls},
            {"kind": "cpu", "calls": calls[1:] * 2},
            {"kind": "cpu", "threads": 16, "cores": 16},
            {"kind": "cpu", "threads": 0, "cores": 16},
        )
    ]
    for others in (elsewhere, elsewhere[::-1]):
        every = plan(*others, made, half, table="table2-ours-fer2013")
        assert {found.name: found for found in every}[run.name].seconds == pytest.approx(1010)
    assert {found.seconds for found in plan(*elsewhere)} == {None}
    assert {run.seconds for run in plan()} == {None}


def test_cost_of_a_slower_network_is_more_than_that_of_the_one_recorded():
    def asked(*there: Recorded) -> dict[tuple, float | None]:
        runs = grid.plan(["rahman2021"], recorded=there, seeds=(0,))
        return {
            (run.fields["model"], run.fields["epochs"]): run.seconds
            for run in runs
            if run.fields.get("learning_rate") == 0.01 and run.fields.get("padding") == 4
        }

    first = next(
        run
        for run in grid.plan(["rahman2021"], recorded=(), seeds=(0,))
        if (run.fields["model"], run.fields["epochs"]) == ("resnet18", 20)
    )
    unknown, known = asked(), asked(recorded(first))
    assert unknown["resnet18", 20] == pytest.approx(20 * 28_709 / 185)
    assert unknown["vgg19_bn", 20] == pytest.approx(20 * 28_709 / 42)
    assert known["resnet18", 20] == pytest.approx(1010)
    assert known["resnet18", 30] == pytest.approx(1510)
    assert known["vgg19_bn", 20] == pytest.approx(1000 * 185 / 42 + 10)
    assert known["fusion_vote", 20] == known["fusion_vote", 300] == unknown["fusion_vote", 20]


@pytest.mark.parametrize("speed", [{}, {"images_per_second": 1, "seconds": 1}])
def test_a_speed_has_a_rate_or_the_seconds_of_the_whole_run(speed):
    with pytest.raises(ValidationError, match="images_per_second or seconds, and not both"):
        Speed.model_validate(speed)


def test_a_limit_of_hours_leaves_out_what_takes_longer_or_nobody_knows():
    (run,) = (run for run in plan(table="table2-ours-fer2013") if run.rank == 0)
    run = replace(run, state="to run", seconds=3600.0)
    assert grid.to_make([run]) == grid.to_make([run], 1) == grid.to_make([run], "1") == [run]
    assert grid.to_make([run], 0.9) == []
    assert grid.to_make([replace(run, seconds=None)], 100) == []
    assert grid.to_make([replace(run, state="absent")]) == []


def test_a_limit_of_hours_counts_the_runs_that_have_to_be_made_first():
    (run,) = (run for run in plan(table="table2-ours-fer2013") if run.rank == 0)
    first = replace(run, state="to run", seconds=36_000.0)
    second = replace(first, name="second", first=(first.name,), seconds=60.0)
    third = replace(first, name="third", first=("second",), seconds=60.0)
    runs = [first, second, third]
    assert grid.to_make(runs, 0.5) == []
    assert grid.to_make(runs, 10) == [first]
    assert grid.to_make(runs, 10.02) == [first, second]
    assert grid.to_make(runs, 10.04) == runs
    made = replace(first, state="done")
    assert grid.to_make([made, second, third], 0.5) == [second, third]
    unknown = replace(first, seconds=None)
    assert grid.to_make([unknown, second, third], 100) == []


def test_a_recorded_run_is_made_again_only_for_one_that_the_hours_leave():
    (run,) = (run for run in plan(table="table2-ours-fer2013") if run.rank == 0)
    first = replace(run, state="to run", seconds=60.0, why=grid.order.FOR_WEIGHTS)
    second = replace(run, name="second", state="to run", seconds=3600.0, first=(first.name,))
    assert grid.to_make([first, second], 2) == [first, second]
    assert grid.to_make([first, second], 0.5) == []
    unrecorded = replace(first, why="no record")
    assert grid.to_make([unrecorded, second], 0.5) == [unrecorded]


def test_what_snakemake_reads_as_a_number_or_is_none_is_told():
    with pytest.raises(grid.GridError, match="TABLE=5: one of Table II"):
        grid.chosen(PAPER, table=5, seeds=0)
    for hours in ("abc", "nan", "-1", 0, ""):
        with pytest.raises(grid.GridError, match=f"HOURS={hours}: a number above 0, such as 0.5"):
            grid.to_make([], hours)


def test_smoke_runs_are_the_same_variants_on_synthetic_faces():
    runs = grid.smoke_runs(plan(), (0, 1, 2))
    assert len(runs) >= 12
    assert {run.dataset for run in runs} == {"synthetic"}
    assert {run.profiles for run in runs} == {("smoke",)}
    assert {run.parameters.get("convolution") for run in runs} == {None, "normal", "spatial"}


def test_what_is_prepared_before_runs_is_what_their_chapter_calls():
    for paper in published_papers():
        for rule in load_published(paper).runs.prepare:
            chapter = grid.read_chapter(paper)
            assert rule.call in chapter.entry_points
            module, _, name = rule.call.partition(":")
            arguments = inspect.signature(getattr(import_module(module), name)).parameters
            assert rule.arguments.keys() <= arguments.keys()
            assert set(rule.arguments.values()) <= chapter.parameters.keys()


@pytest.mark.parametrize("paper", published_papers())
def test_what_runs_need_is_said_of_parameters_that_their_chapter_has(paper):
    needs, known = load_published(paper).runs, grid.read_chapter(paper).parameters.keys()
    for rule in (*needs.first, *needs.after, *needs.prepare, *needs.speed):
        assert rule.fits.keys() <= known
        assert getattr(rule, "run", {}).keys() <= known


def test_runs_with_the_same_settings_share_a_preparation_and_others_have_none():
    runs = grid.plan(["nouisser2023"], recorded=(), seeds=(0, 1))
    by_detector = {}
    for run in runs:
        by_detector.setdefault(run.fields["faces"], set()).add(run.prepared)
    assert by_detector.pop("none") == {()}
    assert {len(names) for names in by_detector.values()} == {1}
    assert len(set.union(*by_detector.values())) == len(by_detector) == 2
    (hog,) = grid.preparations(next(run for run in runs if run.fields["faces"] == "hog"))
    assert (hog.label, hog.settings) == ("fer2013-preprocess-hog", {"detector": "hog"})
    assert hog.seconds == pytest.approx(35_887 / 400)
    assert not any(run.prepared for run in grid.smoke_runs(runs))


def test_another_cache_or_file_of_the_data_is_prepared_again(monkeypatch, tmp_path):
    def name():
        grid.data_key.cache_clear()
        runs = grid.plan(["nouisser2023"], recorded=(), seeds=(0,))
        return runs[0].prepared

    monkeypatch.setenv("FER_DATA", str(tmp_path))
    names = [name()]
    monkeypatch.setenv("FER_CACHE", str(tmp_path / "cache"))
    names.append(name())
    (tmp_path / "fer2013").mkdir()
    (tmp_path / "fer2013" / "fer2013.csv").write_bytes(b"something")
    names.append(name())
    grid.data_key.cache_clear()
    assert len(set(names)) == 3


def test_beginnings_of_names_narrow_the_grid_with_what_is_started_from():
    runs = plan(seeds=(0, 1))
    one = next(run for run in runs if run.dataset == "ck48" and run.first)
    kept = grid.narrowed(runs, [one.label])
    assert {run.name for run in kept} == {one.name, *one.first}
    assert [run.name for run in kept] == [*one.first, one.name]
    assert grid.narrowed(runs, []) == runs
    with pytest.raises(
        grid.GridError, match=r"ONLY=ck84: a run's name begins like (ck48-\S+, ){2}"
    ):
        grid.narrowed(runs, [one.label, "ck84"])


def test_a_run_that_is_left_out_is_not_waited_for():
    runs = grid.plan(["rahman2021"], recorded=(), seeds=(0,))
    long = next(run for run in runs if run.after)
    assert grid.narrowed(runs, [long.name]) == [replace(long, after=())]


def test_a_plan_is_made_without_what_takes_long_to_import():
    """The dry run answers in seconds; each of these alone takes about one."""
    code = "import sys; from fer_utils import grid; grid.plan(seeds=(0,)); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "fer_utils.grid" in done.stdout.split()
    assert {"sklearn", "scipy", "torch", "tensorflow"}.isdisjoint(done.stdout.split())
