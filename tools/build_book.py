"""Execute every chapter, then build the book. Run by the Makefile: `make book`.

    python tools/build_book.py [--profile smoke]
    python tools/build_book.py --chapter data     one page alone, as Snakefile's rule does

notebooks/<name>.ipynb   is executed by papermill with the parameters `profile` and `output_dir`;
                         its last cell writes <output_dir>/<name>.done.json. A notebook that takes
                         the parameter `paper`, too, is a template: it makes a page for each paper,
                         <name>-<paper>, and {{ paper }} in its Markdown becomes the paper's name
build/notebooks/         executed chapters, all of them whole
build/failed/            the partial notebook of a chapter that failed, for a look at the error
build/book_source/       what Jupyter Book is given: book/, the chapters, _config.yml, _toc.yml
build/book/_build/html/  the book

A chapter is executed again, and the book built again, only when something it depends on has other
contents: a fresh clone has arbitrary times, so contents decide. Where several chapters have to be
executed, Snakemake runs as many at once as there are cores, each on one.
"""

import argparse
import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from execute import Failed, clock, end_as_by_ctrl_c, execute, shown
from jobs import Busy, locked, snakemake

from fer_utils import locks

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
HTML = BUILD / "book" / "_build" / "html"
NOT_BUILT = "The book was not built"
CELL_SECONDS = {"smoke": 900, "full": None}  # a cell that hangs must not hold a build for ever


@contextmanager
def in_a_sentence(what: str) -> Iterator[None]:
    """Let what a disk that cannot be written raises end the command in one sentence."""
    try:
        yield
    except OSError as error:
        told = str(error)
        if error.strerror:
            told = error.strerror + ("" if error.filename is None else f": {error.filename}")
        sys.exit(f"{what}: {no_room(str(error)) or told}.")


def no_room(said: str = "") -> str:
    """That the disk is full, if it is; Snakemake, Sphinx and shutil say it in many lines or not.

    Args:
        said: by what failed.
    """
    full = os.strerror(errno.ENOSPC) in said
    if full or shutil.disk_usage(BUILD if BUILD.exists() else ROOT).free < 2**20:
        return f"no space left on the disk of {shown(BUILD)}"
    return ""


def fingerprint(*paths: Path, also: str = "", without: Iterable[str] = ()) -> str:
    """One hash over the names and contents of files and of all files in folders.

    Args:
        paths: files and folders of the project.
        also: hashed with them.
        without: names of files (less their ending) and of folders that are left out.
    """
    digest = hashlib.sha256(also.encode())
    left_out = {"__pycache__", locks.NAME, *without}
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and left_out.isdisjoint((*file.relative_to(ROOT).parts, file.stem)):
                content = hashlib.sha256(file.read_bytes()).hexdigest()
                digest.update(f"{file.relative_to(ROOT)} {content}\n".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class Page:
    """A page of the book that papermill makes.

    Args:
        notebook: as committed.
        paper: what a template is executed for; None for a notebook that is one page.
    """

    notebook: Path
    paper: str | None = None

    @property
    def name(self) -> str:
        """Unique among the pages."""
        return f"{self.notebook.stem}-{self.paper}" if self.paper else self.notebook.stem

    @property
    def executed(self) -> Path:
        """Where it is once it is whole."""
        return BUILD / "notebooks" / f"{self.name}.ipynb"


def pages() -> list[Page]:
    """Every page that the notebooks make, in the order of their names."""
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    chapters = {notebook.stem for notebook in notebooks}
    made = []
    for notebook in notebooks:
        if "paper" in parameters_of(notebook):
            made += [Page(notebook, paper) for paper in papers() if paper in chapters]
        else:
            made.append(Page(notebook))
    return made


def papers() -> list[str]:
    """Keys of all published files, whether or not there is a chapter."""
    return [path.stem for path in published_files()]


def published_files() -> list[Path]:
    """A paper each, in the order of their names."""
    return sorted((ROOT / "data_manifests" / "published").glob("*.yaml"))


def parameters_of(notebook: Path) -> set[str]:
    """Names that a notebook's cell tagged "parameters" sets."""
    return {
        name
        for cell in tagged_cells(notebook)
        for name in re.findall(r"^(\w+) = ", "".join(cell["source"]), re.M)
    }


def tagged_cells(notebook: Path) -> list[dict]:
    """A notebook's cells that are tagged "parameters"."""
    cells = json.loads(notebook.read_text(encoding="utf8"))["cells"]
    return [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]


def inputs_of(page: Page, profile: str) -> str:
    """One hash over all that an executed page depends on.

    A paper's pages do not depend on the files of another paper that they never name. What a page
    tells of runs that are to be made depends on their chapters, too.
    """
    text = page.notebook.read_text(encoding="utf8")
    named = page.paper or text
    of_a_paper = page.paper or page.name in papers()
    planned = [page.paper] if page.paper else papers() if "grid.plan(" in text else []
    return fingerprint(
        page.notebook,
        *(ROOT / "notebooks" / f"{paper}.ipynb" for paper in planned),
        ROOT / "fer_utils",
        ROOT / "data_manifests",
        ROOT / "results",
        ROOT / "requirements.lock",
        also=profile,
        without=[paper for paper in papers() if paper not in named] if of_a_paper else (),
    )


def is_current(page: Page, profile: str) -> bool:
    """Whether build/notebooks has the page as it would come out now."""
    if not (page.executed.exists() and sentinel_of(page, profile).exists()):
        return False
    try:
        told = json.loads(page.executed.with_suffix(".json").read_text())
    except (OSError, ValueError):  # none, or cut off by a full disk
        return False
    return told == {"inputs": inputs_of(page, profile), "executed": fingerprint(page.executed)}


def sentinel_of(page: Page, profile: str) -> Path:
    """What its last cell writes."""
    return BUILD / profile / f"{page.name}.done.json"


def chapter(page: Page, profile: str, progress: bool = True) -> None:
    """Execute a page, unless build/notebooks has it and nothing it depends on has changed.

    Args:
        page: of `pages`.
        profile: see `CELL_SECONDS`.
        progress: whether to show how far it is.

    Raises:
        SystemExit: it failed; build/notebooks holds no version of it.
    """
    name, executed = page.name, page.executed
    stamp = executed.with_suffix(".json")
    failed = BUILD / "failed" / executed.name
    running = BUILD / "running" / executed.name
    if is_current(page, profile):
        print(f"  {name}  unchanged", flush=True)
        return

    inputs = inputs_of(page, profile)
    for stale in (executed, stamp, failed):
        stale.unlink(missing_ok=True)
    for folder in (executed.parent, failed.parent):
        folder.mkdir(parents=True, exist_ok=True)
    if not tagged_cells(page.notebook):  # the notebook's own values would win over these
        sys.exit(f"Chapter {name} failed: no cell of {shown(page.notebook)} is tagged parameters.")
    parameters = {"profile": profile, "output_dir": f"build/{profile}"}
    # One core, however many there are: the numbers of a page do not depend on the machine's.
    threads = 1 if profile == "smoke" else 0
    if threads and "threads" in parameters_of(page.notebook):
        parameters["threads"] = threads
    if page.paper:
        parameters["paper"] = page.paper
    if profile == "smoke":
        # A smoke chapter comes out the same whatever data the reader has, and shows none of it.
        nowhere = BUILD / "no-data"
        nowhere.mkdir(parents=True, exist_ok=True)
        os.environ["FER_DATA"] = str(nowhere)
    started = time.monotonic()
    try:
        execute(
            page.notebook,
            running,
            parameters,
            sentinel_of(page, profile),
            cell_seconds=CELL_SECONDS[profile],
            threads=threads,
            progress=name if progress else None,
        )
    except Failed as failure:
        kept = ""
        if running.exists():
            running.replace(failed)
            kept = f" As far as it came: {shown(failed)}"
        sys.exit(f"Chapter {name} failed: {failure}.{kept}")

    running.replace(executed)
    running.with_suffix(".log").unlink(missing_ok=True)
    expected = {"inputs": inputs, "executed": fingerprint(executed)}
    unfinished = stamp.with_suffix(".part")
    unfinished.write_text(json.dumps(expected))
    unfinished.replace(stamp)
    print(f"  {name}  executed in {clock(time.monotonic() - started)}", flush=True)


def chapters_at_once(changed: list[Page], profile: str) -> None:
    """Execute pages side by side, by the rule of the Snakefile.

    Raises:
        SystemExit: one of them failed; it has said why.
    """
    targets = [f"build/notebooks/{page.name}.ipynb" for page in changed]
    # Those that are not current may be there: Snakemake shall not ask for its own opinion.
    arguments = [*targets, "--forcerun", *targets, "--config", f"profile={profile}"]
    if snakemake(arguments, running=BUILD / "running", jobs=len(targets)):
        full = no_room()
        sys.exit(f"{NOT_BUILT}: {full}." if full else 1)


def documents_in(toc: object) -> Iterable[str]:
    """Every page that _toc.yml names."""
    if isinstance(toc, dict):
        for key, value in toc.items():
            if key in ("file", "root"):
                yield str(value).removesuffix(".md").removesuffix(".ipynb")
            else:
                yield from documents_in(value)
    elif isinstance(toc, list):
        for item in toc:
            yield from documents_in(item)


def source_of(page: Page, profile: str) -> str:
    """An executed page as the book gets it: its tags fit what it was executed on.

    The parameters that papermill injected stay out where the notebook hides its own; cells marked
    as synthetic lose the mark where the data were real. A template's Markdown names its paper.
    """
    notebook = json.loads(page.executed.read_text(encoding="utf8"))
    hidden = False
    for cell in notebook["cells"]:
        tags = cell["metadata"].get("tags", [])
        if "parameters" in tags:
            hidden = "remove-cell" in tags
        if "injected-parameters" in tags and hidden:
            tags.append("remove-cell")
        if profile != "smoke" and "synthetic" in tags:
            tags.remove("synthetic")
        if page.paper and cell["cell_type"] == "markdown":
            cell["source"] = "".join(cell["source"]).replace("{{ paper }}", page.paper)
    return json.dumps(notebook)


def bibliography() -> str:
    """The entries of all papers, as their published files have them."""
    published = (yaml.safe_load(path.read_text(encoding="utf8")) for path in published_files())
    return "\n".join(paper.get("bibtex", "") for paper in published)


def assemble(executed: list[Page], source: Path, profile: str) -> None:
    """Lay out what Jupyter Book is given, and refuse a table of contents that does not match."""
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(ROOT / "book", source, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_*"))
    (source / "chapters").mkdir(exist_ok=True)
    for page in executed:
        path = source / "chapters" / page.executed.name
        path.write_text(source_of(page, profile), encoding="utf8")
    (source / "papers.bib").write_text(bibliography(), encoding="utf8")
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, source)

    listed = set(documents_in(yaml.safe_load((source / "_toc.yml").read_text(encoding="utf8"))))
    there = {
        str(path.relative_to(source).with_suffix(""))
        for path in source.rglob("*")
        if path.suffix in (".md", ".ipynb") and "book_static" not in path.parts
    }
    if listed != there:
        lines = [f"_toc.yml names {name}, which does not exist" for name in sorted(listed - there)]
        lines += [f"_toc.yml does not name {name}" for name in sorted(there - listed)]
        sys.exit("The book cannot be built: " + "; ".join(lines) + ".")


def build(source: Path) -> None:
    """Jupyter Book over the assembled source, warnings as errors. A failed build replaces nothing.

    Always from nothing: Sphinx repeats no warning for a page that it has read before, so a second
    build on top of a failed one would pass.
    """
    stamp = BUILD / "book" / "source.sha256"
    inputs = fingerprint(source, ROOT / "requirements.lock", Path(__file__))
    if stamp.exists() and stamp.read_text() == inputs and (HTML / "index.html").exists():
        print("  unchanged", flush=True)
        return
    started = time.monotonic()
    new = BUILD / "book.new"
    shutil.rmtree(new, ignore_errors=True)
    # -n: a reference without a target is an error; --keep-going: all of them in one go.
    options = ["-W", "-n", "--keep-going", "-q", "--path-output", str(new)]
    program = str(Path(sys.executable).with_name("jupyter-book"))
    done = subprocess.run([program, "build", str(source), *options], capture_output=True, text=True)
    if done.returncode or not (new / "_build" / "html" / "index.html").exists():
        if full := no_room(done.stderr):
            sys.exit(f"{NOT_BUILT}: {full}.")
        told = re.sub(r"\x1b\[[0-9;]*m", "", done.stderr)
        (BUILD / "book.log").write_text(told)
        # Jupyter Book lets a traceback of its own follow the warnings.
        warnings = told.split("Traceback (most recent call last)")[0]
        print(warnings.replace(f"{source}{os.sep}", "").strip(), file=sys.stderr)
        sys.exit(f"{NOT_BUILT}: warnings count as errors. All it said: build/book.log")
    (new / stamp.name).write_text(inputs)
    shutil.rmtree(BUILD / "book", ignore_errors=True)
    new.replace(BUILD / "book")
    print(f"  built in {clock(time.monotonic() - started)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--profile",
        choices=sorted(CELL_SECONDS),
        default="smoke",
        help="smoke: the embedded synthetic faces, minutes; full: the data under FER_DATA, hours",
    )
    parser.add_argument("--chapter", help="execute one page, such as data, and build no book")
    options = parser.parse_args()
    profile = options.profile
    if options.chapter:
        by_name = {page.name: page for page in pages()}
        if options.chapter not in by_name:
            sys.exit(f"No page is called {options.chapter}: one of {', '.join(by_name)}.")
        with in_a_sentence(f"Chapter {options.chapter} failed"):
            chapter(by_name[options.chapter], profile, progress=False)
        return
    try:
        with in_a_sentence(NOT_BUILT), locked(BUILD / "book.lock", "make book"):
            book(profile)
    except Busy as busy:
        sys.exit(str(busy))


@in_a_sentence(NOT_BUILT)
def book(profile: str) -> None:
    """Execute what has changed, build the book, say where it is."""
    every = pages()
    print(f"Chapters ({profile} profile)", flush=True)
    changed = [page for page in every if not is_current(page, profile)]
    if len(changed) > 1:
        chapters_at_once(changed, profile)
    else:
        for page in every:
            chapter(page, profile)
    print("Book", flush=True)
    assemble(every, BUILD / "book_source", profile)
    build(BUILD / "book_source")
    print(f"Read it: {(HTML / 'index.html').as_uri()}", flush=True)


if __name__ == "__main__":
    end_as_by_ctrl_c()
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nInterrupted; what was finished is kept.")
