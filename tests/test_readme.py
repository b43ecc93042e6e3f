"""README says what the records say."""

import re
from pathlib import Path

import pytest

from fer_utils.cli import markdown
from fer_utils.comparison import compare
from fer_utils.manifests import published_papers

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf8")


def test_table_of_verdicts_is_the_one_that_the_records_give():
    shown = re.search(r"<!-- verdicts: (.+?) -->\n(.*?)<!-- /verdicts -->", README, flags=re.DOTALL)
    assert shown, "README has lost its table of verdicts"
    every = [found for paper in published_papers() for found in compare(paper)]
    assert shown[2].strip() == markdown(every), f"run: .venv/bin/{shown[1]}"


def test_a_paper_comes_into_the_table_with_its_first_record(tmp_path):
    """So adding one does not touch README."""
    old, new = compare("wang2023"), compare("rahman2021", folder=tmp_path)
    assert "rahman2021" in markdown([*old, *compare("rahman2021")])
    assert markdown([*old, *new]) == markdown(old)


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+)\)", README))
def test_what_readme_links_to_exists(target):
    assert (ROOT / target).exists()
