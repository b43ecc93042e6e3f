"""No failed chapter reaches the book, and nothing is done twice: tools/build_book.py on a copy."""

import errno
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parent.parent
RECORD = 'from pathlib import Path; Path(output_dir, "NAME.done.json").write_text("{}");'
TOC = "format: jb-book\nroot: intro\nchapters:\n- file: chapters/sample\n- file: references\n"


@pytest.fixture
def project(tmp_path):
    """The book's shell, without chapters."""
    shutil.copytree(ROOT / "book", tmp_path / "book")
    for name in ("tools", "workflow"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("Snakefile", "requirements.lock", "_config.yml"):
        shutil.copy(ROOT / name, tmp_path / name)
    for page in (tmp_path / "book").glob("*.md"):
        if page.stem not in ("intro", "references"):
            page.unlink()
    (tmp_path / "book" / "intro.md").write_text("# The book\n")
    (tmp_path / "_toc.yml").write_text(TOC)
    return tmp_path


def write_chapter(
    project: Path, *sources: str, name: str = "sample", title: str = "A chapter", more: str = ""
) -> None:
    parameters = new_code_cell(f'profile = "smoke"\noutput_dir = "build/smoke"{more}')
    parameters.metadata.tags = ["parameters"]
    sources = [source.replace("NAME", name) for source in sources]
    cells = [new_markdown_cell(f"# {title}"), parameters, *map(new_code_cell, sources)]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    (project / "notebooks").mkdir(exist_ok=True)
    notebook = new_notebook(cells=cells, metadata=metadata)
    nbformat.write(notebook, project / "notebooks" / f"{name}.ipynb")


def build(project: Path, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "tools/build_book.py", *words]
    return subprocess.run(command, cwd=project, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["raise ValueError('no such data')", RECORD], "In [3]: ValueError: no such data"),
        ([RECORD, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"], "status"),
        (["print('done')"], "did not write build/smoke/sample.done.json"),
    ],
    ids=["error", "killed kernel", "no record"],
)
def test_failed_chapter_is_not_published(project, cells, said):
    stale = project / "build" / "smoke" / "sample.done.json"  # of an earlier, good run
    stale.parent.mkdir(parents=True)
    stale.write_text("{}")
    write_chapter(project, *cells)
    done = build(project)
    assert done.returncode != 0
    sentence = done.stderr.strip().splitlines()[-1]
    assert sentence.startswith("Chapter sample failed: ")
    assert said in sentence
    assert (project / "build/failed/sample.ipynb").exists()
    assert not (project / "build/notebooks/sample.ipynb").exists()
    assert not (project / "build/book").exists()


def test_a_chapter_whose_parameters_nobody_could_change_is_not_executed(project):
    write_chapter(project, RECORD)
    path = project / "notebooks" / "sample.ipynb"
    path.write_text(path.read_text().replace('"parameters"', '"parameter"'))
    done = build(project, "--chapter", "sample")
    assert done.returncode != 0
    assert done.stderr == (
        "Chapter sample failed: no cell of notebooks/sample.ipynb is tagged parameters.\n"
    )
    assert not (project / "build" / "smoke").exists()


# What Python runs before anything else: a kernel that finds its port taken dies like this.
DIES = """
import sys
from pathlib import Path

if "ipykernel_launcher" in sys.orig_argv:
    with Path("starts").open("a") as file:
        file.write("x")
    if len(Path("starts").read_text()) <= {times}:
        sys.exit("Address already in use")
"""


@pytest.mark.parametrize(("times", "starts"), [(2, 3), (9, 3), (0, 1)])
def test_a_kernel_that_dies_before_the_first_cell_is_started_again(
    project, monkeypatch, times, starts
):
    (project / "first").mkdir()
    (project / "first" / "sitecustomize.py").write_text(DIES.format(times=times))
    monkeypatch.setenv("PYTHONPATH", str(project / "first"))
    write_chapter(project, "print('done')", RECORD)
    done = build(project)
    assert len((project / "starts").read_text()) == starts
    if times < 3:
        assert "sample  executed" in done.stdout
    else:
        assert "Kernel died before replying to kernel_info" in done.stderr


@pytest.mark.slow
def test_book_is_built_once_and_again_after_a_change(project):
    write_chapter(project, "print('first')", RECORD)
    first = build(project)
    assert first.returncode == 0, first.stderr
    index = project / "build/book/_build/html/index.html"
    assert first.stdout.strip().endswith(index.as_uri())
    chapter = index.parent / "chapters" / "sample.html"
    assert "first" in chapter.read_text()

    again = build(project)
    assert "sample  unchanged" in again.stdout
    assert "executed" not in again.stdout
    assert "built in" not in again.stdout

    write_chapter(project, "print('second')", RECORD)
    changed = build(project)
    assert "sample  executed" in changed.stdout
    assert "second" in chapter.read_text()

    # A warning fails the build every time, and the book of before stays.
    (project / "book" / "intro.md").write_text("# The book\n\n{ref}`nowhere`\n")
    for _ in range(2):
        broken = build(project)
        assert broken.returncode != 0
        assert "nowhere" in broken.stderr
        assert "second" in chapter.read_text()


@pytest.mark.slow
def test_several_chapters_are_executed_at_once_and_a_failed_one_stops_the_book(project):
    write_chapter(project, "print('first')", RECORD)
    write_chapter(project, "raise ValueError('no such data')", RECORD, name="broken")
    done = build(project)
    assert done.returncode != 0
    assert "sample  executed" in done.stdout
    assert "Chapter broken failed: In [3]: ValueError: no such data." in done.stdout
    assert not (project / "build/book").exists()
    assert not (project / "build/notebooks/broken.ipynb").exists()

    write_chapter(project, "print('repaired')", RECORD, name="broken")
    with (project / "_toc.yml").open("a") as toc:
        toc.write("- file: chapters/broken\n")
    again = build(project)
    assert again.returncode == 0, again.stderr
    assert "sample  unchanged" in again.stdout
    assert not list((project / "build/running").iterdir())


def test_two_builds_at_once_are_one_too_many(project):
    write_chapter(project, "import time; time.sleep(3)", RECORD)
    command = [sys.executable, "tools/build_book.py"]
    first = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline().startswith("Chapters")
    second = build(project)
    assert second.returncode != 0
    assert second.stderr.splitlines() == [
        f"Another make book is at work in this folder (process {first.pid}): wait until it has "
        "finished, or stop it."
    ]
    assert first.wait() == 0
    assert build(project).returncode == 0


def test_table_of_contents_and_pages_agree(project):
    (project / "book" / "forgotten.md").write_text("# Forgotten\n")
    done = build(project)
    assert done.returncode != 0
    assert "_toc.yml does not name forgotten" in done.stderr
    assert "_toc.yml names chapters/sample, which does not exist" in done.stderr


@pytest.fixture
def papers(project):
    """Two papers with a chapter, one without, and a template that makes a page for each."""
    published = project / "data_manifests" / "published"
    published.mkdir(parents=True)
    for paper in ("one2020", "two2021", "later2022"):
        (published / f"{paper}.yaml").write_text(f"paper: {paper}\n")
    for paper in ("one2020", "two2021"):
        write_chapter(project, "print('read')", RECORD, name=paper)
    write_chapter(
        project,
        "print('about', paper)",
        RECORD.replace('"NAME.', 'f"report-{paper}.'),
        name="report",
        title="Report on {{ paper }}",
        more='\npaper = "one2020"',
    )
    chapters = [f"- file: chapters/{name}\n" for name in ("one2020", "two2021")]
    reports = [name.replace("chapters/", "chapters/report-") for name in chapters]
    toc = "".join(chapters + reports)
    (project / "_toc.yml").write_text(TOC.replace("- file: chapters/sample\n", toc))
    return published


@pytest.mark.slow
def test_a_template_makes_a_page_for_each_paper_that_has_a_chapter(project, papers):
    done = build(project)
    assert done.returncode == 0, done.stdout + done.stderr
    html = project / "build/book/_build/html/chapters"
    for paper in ("one2020", "two2021"):
        page = (html / f"report-{paper}.html").read_text()
        assert f"<h1>Report on {paper}<" in page
        assert f"about {paper}" in page
    assert not (html / "report.html").exists()
    assert not (html / "report-later2022.html").exists()
    # The template itself stays as it is.
    assert "{{ paper }}" in (project / "notebooks/report.ipynb").read_text()


@pytest.mark.slow
def test_a_chapter_cites_its_paper_by_the_entry_in_the_published_file(project, papers):
    entry = "@misc{one2020, author = {Doe, Jo}, title = {On one}, year = {2020}}"
    with (papers / "one2020.yaml").open("a") as published:
        published.write(f"bibtex: |\n  {entry}\n")
    write_chapter(project, "1", RECORD, name="one2020", title="One\n\nBy {cite:t}`one2020`")
    done = build(project)
    assert done.returncode == 0, done.stdout + done.stderr
    html = project / "build/book/_build/html"
    assert re.search("By.{,300}Doe", (html / "chapters/one2020.html").read_text())
    assert "On one" in (html / "references.html").read_text()


@pytest.mark.slow
def test_a_page_of_a_template_is_made_again_when_its_own_paper_changes(project, papers):
    def changed() -> list[bool]:
        told = [build(project, "--chapter", f"report-{name}") for name in ("one2020", "two2021")]
        assert [done.returncode for done in told] == [0, 0]
        return ["executed" in done.stdout for done in told]

    assert changed() == [True, True]
    assert changed() == [False, False]
    (papers / "two2021.yaml").write_text("paper: two2021\ntitle: Another\n")
    assert changed() == [False, True]
    write_chapter(project, "print('read again')", RECORD, name="one2020")
    assert changed() == [True, False]


@pytest.mark.slow
def test_a_page_that_tells_of_planned_runs_is_made_again_when_a_chapter_changes(project, papers):
    write_chapter(project, "# grid.plan() would stand here", RECORD)
    write_chapter(project, "print('of no run')", RECORD, name="other")
    names = ("sample", "other")
    for changes, expected in (
        (False, [True, True]),
        (False, [False, False]),
        (True, [True, False]),
    ):
        if changes:
            write_chapter(project, "print('read again')", RECORD, name="one2020")
        told = [build(project, "--chapter", name) for name in names]
        assert ["executed" in done.stdout for done in told] == expected, told


def test_a_folder_above_the_project_leaves_nothing_out(tool, monkeypatch, tmp_path):
    """A project below a folder with a paper's name, as of a branch, was never built again."""
    build_book, root = tool("build_book"), tmp_path / "one2020" / "project"
    root.mkdir(parents=True)
    monkeypatch.setattr(build_book, "ROOT", root)
    found = set()
    for text in ("as it was", "changed"):
        (root / "module.py").write_text(text)
        found.add(build_book.fingerprint(root, without=["one2020"]))
    assert len(found) == 2


def test_a_page_that_does_not_exist_is_told_with_those_that_do(project, papers):
    done = build(project, "--chapter", "report")
    assert done.returncode != 0
    assert done.stderr.strip() == (
        "No page is called report: one of one2020, report-one2020, report-two2021, two2021."
    )


@pytest.mark.slow
def test_a_stamp_that_was_cut_off_makes_its_page_again(project):
    write_chapter(project, "print('made')", RECORD)
    stamp = project / "build/notebooks/sample.json"
    assert build(project, "--chapter", "sample").returncode == 0
    whole = stamp.read_text()
    for left in ("", whole[:20]):
        stamp.write_text(left)
        done = build(project, "--chapter", "sample")
        assert "sample  executed" in done.stdout, done.stderr
    assert "sample  unchanged" in build(project, "--chapter", "sample").stdout


def test_a_disk_that_is_full_at_the_stamp_leaves_none(project, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    build_book = import_module("build_book")
    write_chapter(project)
    monkeypatch.setattr(build_book, "ROOT", project)
    monkeypatch.setattr(build_book, "BUILD", project / "build")
    monkeypatch.setenv("FER_DATA", "")  # a chapter sets it

    def execute(notebook, running, *_, **__):
        running.parent.mkdir(parents=True)
        running.write_bytes(notebook.read_bytes())

    def write_text(path, text, **_):
        path.write_bytes(text.encode()[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(build_book, "execute", execute)
    page = build_book.Page(project / "notebooks" / "sample.ipynb")
    with monkeypatch.context() as full:
        full.setattr(Path, "write_text", write_text)
        with pytest.raises(OSError, match="No space left"):
            build_book.chapter(page, "smoke")
    assert page.executed.exists()
    assert not page.executed.with_suffix(".json").exists()


@pytest.fixture
def leave(tmp_path):
    """A function that leaves so much room on the small disk below `tmp_path`; None: all of it."""
    words = ["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", tmp_path]
    if subprocess.run(words, capture_output=True).returncode:
        pytest.skip("mounting a small file system takes root")
    filler = tmp_path / "filler"

    def leave(room: int | None) -> None:
        filler.unlink(missing_ok=True)
        if room is not None:
            filler.write_bytes(bytes(shutil.disk_usage(tmp_path).free - room))

    yield leave
    subprocess.run(["umount", "-l", tmp_path], check=True)


@pytest.mark.slow
def test_a_full_disk_is_told_in_a_sentence_and_more_room_is_enough(leave, project):
    def told(room: int) -> str:
        leave(room)
        full = build(project)
        assert full.returncode == 1
        assert "Traceback" not in full.stdout + full.stderr
        assert not (project / "build/book").exists()
        return full.stderr.strip().splitlines()[-1]

    not_built = "The book was not built: no space left on the disk of build."
    write_chapter(project, "print('made')", RECORD)
    assert told(0) == not_built
    assert told(8192) == "Chapter sample failed: no space left on the disk of build/running."
    write_chapter(project, "print('made')", RECORD, name="other")
    assert told(50_000) == not_built  # of two at once
    (project / "notebooks/other.ipynb").unlink()
    leave(None)
    assert build(project, "--chapter", "sample").returncode == 0
    assert told(300_000) == not_built  # its pages find no room
    assert told(3_000_000) == not_built  # nor what Sphinx makes of them
    leave(None)
    done = build(project)
    assert done.returncode == 0, done.stderr
