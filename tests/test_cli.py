"""The commands print what people and programs need, and say what is wrong in one sentence."""

import json
import os
import re
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import trees
import yaml

from fer_utils import audit, comparison, data_report, manifests, records
from fer_utils.cli import main, table
from fer_utils.detection import DetectionError
from fer_utils.manifests import dataset_names, load_published, published_papers

PAPER = "yengikand2023"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder that the command reads in place of results/."""
    folder = tmp_path / "results"
    monkeypatch.setattr(comparison, "compare", partial(comparison.compare, folder=folder))
    return folder


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    told = capsys.readouterr().out
    assert "data" in told
    assert "results" in told


@pytest.mark.parametrize("arguments", [[], ["data"], ["datas"], ["data", "check", "--rot", "x"]])
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: fer-utils" in capsys.readouterr().err


# ---- results -----------------------------------------------------------------------------------


def test_results_has_a_line_for_every_published_cell(results, capsys):
    assert main(["results"]) == 0
    lines = capsys.readouterr().out.splitlines()
    header = "paper table row column published ours 90 % runs verdict"
    assert lines[0].split() == header.split()
    cells = [cell for paper in published_papers() for cell in load_published(paper).cells]
    assert len(lines) == 2 + len(cells)
    for line, cell in zip(lines[2:], cells, strict=True):
        assert cell.row in line
        assert cell.printed in line


def test_results_shows_what_was_reproduced_and_what_was_not_attempted(results, capsys, make_record):
    cell = next(c for c in load_published(PAPER).cells if c.id == "table2-ours-fer2013")
    label, beside = next(iter(cell.also.items()))
    for seed, correct in enumerate((6000, 6300)):
        run = make_record(f"a-{seed}", correct=correct, n=10_000, seed=seed, **cell.select)
        records.write(run, None, None, results)
    records.write(make_record("b-0", correct=1234, n=10_000, **beside), None, None, results)
    assert main(["results", "--paper", PAPER]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = next(k for k, line in enumerate(lines) if "65.32" in line)
    assert "61.50" in lines[at]
    assert lines[at].split()[-2:] == ["2", "inconclusive"]
    assert label in lines[at + 1]
    assert "12.34" in lines[at + 1]
    assert any("97.01" in line and line.endswith("not attempted") for line in lines)
    assert any("1,228,800" in line and line.endswith("reproduced") for line in lines)


def test_what_stands_beside_a_result_says_when_its_code_is_another(results, capsys, make_record):
    cell = next(c for c in load_published(PAPER).cells if c.id == "table2-ours-fer2013")
    label, beside = next(iter(cell.also.items()))
    records.write(make_record("b-0", stale=True, **beside), None, None, results)
    for form in ([], ["--markdown"]):
        assert main(["results", "--paper", PAPER, *form]) == 0
        (line,) = (line for line in capsys.readouterr().out.splitlines() if label in line)
        assert line.rstrip(" |").endswith("stale")


def test_runs_of_a_folder_are_listed_in_the_order_they_were_made(tmp_path, capsys, make_record):
    for name, correct, made in (("a-0", 30, "2026-02"), ("b-0", 20, "2026-01")):
        record = make_record(name, correct=correct, epochs=2)
        record = record.model_copy(update={"created": f"{made}-01T10:20:30+00:00"})
        records.write(record, None, None, tmp_path)
    assert main(["runs", str(tmp_path)]) == 0
    first, second = (line.split() for line in capsys.readouterr().out.splitlines()[2:])
    assert first[:2] == [PAPER, "b-0"]
    assert second[1:6] == ["a-0", "full", "2", "75.00", "75.00"]
    assert second[6] == record.code.sha256[:8]
    assert second[-2:] == ["2026-02-01", "10:20"]


def test_runs_of_one_label_are_told_apart_by_the_parameters_that_differ(
    tmp_path, capsys, make_record
):
    made = {"a-seed0-00000001": (0.01, "first-00000001"), "a-seed0-00000002": (0.1, "first-2")}
    made |= {"a-seed1-00000003": (0.01, "first-00000003"), "b-seed0-00000004": (0.1, "second")}
    for name, (rate, first) in made.items():
        first = first.replace("-2", "-00000002")  # the same run, repeated with other code
        record = make_record(name, learning_rate=rate, pretraining=first, model="net")
        records.write(record, None, None, tmp_path)
    assert main(["runs", str(tmp_path)]) == 0
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert header.endswith("apart from its namesakes")
    told = {row.split()[1]: row.split("UTC)")[-1] for row in rows}
    assert set(told) == set(made)
    for name, (rate, _) in made.items():
        alone = not name.startswith("a-seed0")
        assert told[name].endswith(f"  learning_rate {rate}") != alone
        assert "pretraining" not in told[name]
        assert "model" not in told[name]


def test_records_a_level_above_or_below_are_told_where_they_are(tmp_path, capsys, make_record):
    folder = tmp_path / "smoke" / "records"
    written = records.write(make_record("a-0"), None, None, folder)
    assert main(["runs", str(tmp_path / "smoke")]) == 1
    told = one_sentence(capsys.readouterr())
    assert told == f"fer-utils: {tmp_path}/smoke: no record is here; records are in {folder}\n"
    (written.parent / "preparation").mkdir()  # what a run has found beside
    (written.parent / "preparation" / "a-0.json").write_text("{}")
    assert main(["runs", str(written.parent)]) == 1
    told = one_sentence(capsys.readouterr())
    assert told.endswith(f": the records of one paper; name the folder above: {folder}\n")


def test_a_paper_in_place_of_a_folder_of_records_is_told_so(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["runs", PAPER]) == 1
    told = one_sentence(capsys.readouterr())
    assert told == (
        f"fer-utils: {PAPER}: a paper; a folder of records belongs here, such as results\n"
    )


def test_the_lines_of_the_book_that_compare_one_s_own_runs_do_so(
    tmp_path, monkeypatch, make_predictions
):
    before = make_predictions("a-0", np.arange(40) < 20)
    after = make_predictions("b-0", np.arange(40) < 30)
    book = (manifests.MANIFESTS.parent / "book" / "intro.md").read_text(encoding="utf8")
    (lines,) = re.findall(r"```python\n(.*?)```", book, re.DOTALL)
    for told, mine in {"PAPER": PAPER, "BEFORE": before.run, "AFTER": after.run}.items():
        assert told in lines
        lines = lines.replace(told, mine)
    (tmp_path / "build" / "smoke").mkdir(parents=True)
    (tmp_path / "build" / "smoke" / "records").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    *first, last = lines.strip().splitlines()
    names = {}
    exec("\n".join(first), names)
    assert eval(last, names).mean == 25


def test_a_mistyped_folder_of_records_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").touch()
    for name in ("mistyped", "file"):
        assert main(["runs", str(tmp_path / name)]) == 1
        told = one_sentence(capsys.readouterr())
        assert told == f"fer-utils: {tmp_path / name}: no such folder of records\n"


@pytest.mark.parametrize("words", [["runs", ""], ["audit", ""], ["data", "check", "--root", ""]])
def test_a_variable_that_is_not_set_names_no_path(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.endswith(": a path, not an empty word\n")


def test_a_folder_without_records_is_one_sentence(tmp_path, capsys):
    assert main(["runs", str(tmp_path)]) == 1
    assert (
        capsys.readouterr().err
        == f"fer-utils: {tmp_path}: no record is here; run a chapter first\n"
    )


def test_results_as_json_has_every_cell_with_its_verdict(results, capsys, make_record):
    cell = next(c for c in load_published(PAPER).cells if c.id == "table2-ours-fer2013")
    records.write(make_record("a-0", correct=30, n=40, **cell.select), None, None, results)
    assert main(["results", "--json", "--paper", PAPER]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [entry["cell"]["id"] for entry in found] == [c.id for c in load_published(PAPER).cells]
    entry = next(entry for entry in found if entry["cell"]["id"] == cell.id)
    assert entry["ours"]["mean"] == 75
    assert entry["ours"]["low"] < 75 < entry["ours"]["high"]
    assert entry["verdict"] == "inconclusive"


def test_results_of_one_paper_leave_the_others_out(capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(manifests, "published_papers", lambda: ("one2023", "two2024"))
    monkeypatch.setattr(comparison, "compare", lambda paper: asked.append(paper) or [])
    main(["results", "--json"])
    main(["results", "--json", "--paper", "two2024"])
    assert asked == ["one2023", "two2024", "two2024"]


def test_results_of_the_committed_records_are_printed(capsys):
    assert main(["results", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {entry["paper"] for entry in found} == set(published_papers())


def one_sentence(told):
    """What stands on standard error, if that is one sentence of the program's own."""
    assert told.err.startswith("fer-utils: ")
    assert told.err.count("\n") == 1
    assert "Traceback" not in told.err
    assert told.out == ""
    return told.err


@pytest.mark.parametrize("paper", ["nobody1999", ""])
def test_an_unknown_paper_is_one_sentence_that_names_those_there_are(paper, results, capsys):
    assert main(["results", "--paper", paper]) == 1
    told = one_sentence(capsys.readouterr())
    assert f"paper '{paper}': one of " in told
    assert PAPER in told


def test_a_damaged_record_is_one_sentence_that_names_the_file(results, capsys, make_record):
    path = records.write(make_record("a-0"), None, None, results)
    path.write_text("{")
    assert main(["results"]) == 1
    assert str(path) in one_sentence(capsys.readouterr())


# ---- data check --------------------------------------------------------------------------------


def test_without_data_every_set_is_absent_and_that_is_no_failure(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["data", "check", "--root", str(tmp_path / "empty")]) == 0
    told = capsys.readouterr().out
    states = {line.split()[0]: line.split()[1] for line in told.splitlines()[2:8]}
    assert states == {
        name: "verified" if name == "synthetic" else "absent" for name in dataset_names()
    }
    assert told.count(" is absent. ") == len(dataset_names()) - 1
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize("form", [[], ["--json"]])
@pytest.mark.parametrize("named", ["--root", "FER_DATA"])
def test_a_mistyped_folder_of_data_is_told_in_place_of_sets_that_are_absent(
    named, form, tmp_path, capsys, monkeypatch
):
    (tmp_path / "file").touch()
    problems = {"mistyped": "no such folder of data", "file": "a folder of data belongs here"}
    for name, problem in problems.items():
        if named == "FER_DATA":
            monkeypatch.setenv(named, str(tmp_path / name))
        words = [named, str(tmp_path / name)] if named == "--root" else []
        assert main(["data", "check", *words, *form]) == 1
        assert f"{tmp_path / name}: {problem}" in one_sentence(capsys.readouterr())


@pytest.mark.parametrize("named", ["FER_DATA", "FER_CACHE", "--root"])
def test_a_home_folder_that_is_not_there_is_one_sentence(named, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FER_DATA", str(tmp_path))
    if named == "--root":
        words = [named, "~no.such.person/x"]
    else:
        words = []
        monkeypatch.setenv(named, "~no.such.person/x")
    assert main(["data", "check", *words]) == 1
    assert "~no.such.person/x: no such home folder" in one_sentence(capsys.readouterr())


def test_without_a_folder_of_data_named_every_set_tells_how_to_get_it(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.delenv("FER_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(["data", "check"]) == 0
    assert capsys.readouterr().out.count(" is absent. ") == len(dataset_names()) - 1


def test_data_check_as_json(tmp_path, capsys):
    assert main(["data", "check", "--json", "--root", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in found] == list(dataset_names())
    assert all(entry["obtain"] for entry in found)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_corrupt_set_fails_the_check_and_is_named_with_its_row(tmp_path, capsys, options):
    root = trees.fer2013(tmp_path / "root")
    path = root / "fer2013" / "fer2013.csv"
    lines = path.read_text().splitlines()
    lines[3] = lines[3].replace(" ", " 999 ", 1)
    path.write_text("\n".join(lines) + "\n")
    before = path.read_bytes()
    assert main(["data", "check", "--root", str(root), *options]) == 1
    told = capsys.readouterr()
    if options:
        entry = next(e for e in json.loads(told.out) if e["name"] == "fer2013")
        assert (entry["state"], entry["path"], entry["row"]) == ("corrupt", str(path), 3)
    else:
        assert f"fer2013 is corrupt. {path}, row 3 (line 4): " in told.out
    assert told.err == ""
    assert path.read_bytes() == before


def test_data_check_says_where_images_or_labels_are_not_those_of_the_recorded_runs(
    tmp_path, capsys
):
    assert main(["data", "check", "--root", str(trees.ck48(tmp_path))]) == 0
    told = capsys.readouterr().out.splitlines()
    assert "structure right, hash unknown" in told[2]
    assert "other images or labels than in the recorded runs" in told[2]


def test_the_data_root_is_read_from_the_environment(tmp_path, capsys, monkeypatch):
    root = trees.fer2013(tmp_path / "root")  # forty rows: cut short
    monkeypatch.setenv("FER_DATA", str(root))
    assert main(["data", "check"]) == 1
    assert "fer2013 is corrupt" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DetectionError("no landmark model"), "no landmark model"),
        (PermissionError(13, "Permission denied", "data.json"), "data.json: Permission denied"),
        (OSError("no room"), "no room"),
    ],
)
def test_what_a_report_lacks_is_one_sentence(error, told, capsys, monkeypatch):
    def fail(root):
        raise error

    monkeypatch.setattr(data_report, "measure", fail)
    assert main(["data", "report"]) == 1
    assert one_sentence(capsys.readouterr()) == f"fer-utils: {told}\n"


# ---- printing ----------------------------------------------------------------------------------


def test_columns_are_aligned_and_those_of_numbers_stand_right():
    rows = [("one", "1", "a"), ("three", "1,000.5", ""), ("two", "-", "b"), ("", "-3", "c")]
    assert table(rows, ("name", "value", "note")).splitlines() == [
        "name     value  note",
        "-----  -------  ----",
        "one          1  a",
        "three  1,000.5",
        "two          -  b",
        "            -3  c",
    ]


TOOLS = manifests.MANIFESTS.parent / "tools"


@pytest.mark.parametrize("buffered", [False, True])
@pytest.mark.parametrize(
    "words",
    [
        ["-m", "fer_utils.cli", "results"],
        ["-m", "fer_utils.cli", "--help"],
        [TOOLS / "check_data.py", "--help"],
        [TOOLS / "reproduce.py", "--dry-run", "--paper", "wang2023"],
        [TOOLS / "within.py", "--help"],
    ],
    ids=lambda words: " ".join(str(word).rpartition("/")[2] for word in words),
)
def test_a_reader_that_stops_early_is_no_error(words, buffered):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    run = subprocess.Popen(
        [sys.executable, *([] if buffered else ["-u"]), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    run.stdout.close()  # as `fer-utils results | true` does
    told = run.stderr.read()
    assert (run.wait(), told) == (0, "")


def test_a_sign_that_the_encoding_of_the_output_lacks_is_an_escape(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "fer_utils.cli", "data", "check"],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "FER_DATA": str(trees.jaffe(tmp_path / "K\u00e4the", ["KA"])),
            "PYTHONIOENCODING": "ascii",
        },
    )
    assert "Traceback" not in done.stderr
    assert "K\\xe4the" in done.stdout


# ---- audit -------------------------------------------------------------------------------------


def test_audit_prints_how_many_checks_were_made_and_every_finding_in_words(capsys):
    assert main(["audit"]) == 0
    told = capsys.readouterr().out
    header = " ".join(told.splitlines()[0].split())
    assert header == "paper check consistent cannot tell findings"
    for paper in published_papers():
        for finding in audit.audit(load_published(paper)):
            for words in (finding.result, *finding.details):
                assert " ".join(words.split()) in " ".join(told.split())
    assert max(map(len, told.splitlines())) <= 100


def test_audit_of_a_file_reads_that_file_alone(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    raw = load_published(PAPER).model_dump(mode="json") | {"paper": "mine2024", "bibtex": None}
    path.write_text(yaml.safe_dump(raw))
    assert main(["audit", str(path), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["paper"] == "mine2024"
    assert found["findings"] == [
        json.loads(json.dumps(finding.as_dict())) | {"paper": "mine2024"}
        for finding in audit.audit(load_published(PAPER))
    ]
    made = sum(sum(counts.values()) for counts in found["checks"].values())
    assert made > len(found["findings"]) > 0


@pytest.mark.parametrize("text", [None, "paper: [", "paper: mine2024", "- 1", "\0"])
def test_audit_of_a_broken_file_is_one_sentence_that_names_it(text, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text)
    assert main(["audit", str(path)]) == 1
    assert str(path) in one_sentence(capsys.readouterr())
