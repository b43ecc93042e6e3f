"""What a reader of the built book would trip over: run after `make book`."""

import functools
import http.server
import re
import shutil
import threading
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from bs4 import BeautifulSoup

from fer_utils.manifests import load_published, published_papers

HTML = Path(__file__).resolve().parent.parent / "build" / "book" / "_build" / "html"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = pytest.mark.skipif(
    not (HTML / "index.html").exists(), reason="the book is not built: run `make book`"
)
PAGES = sorted(
    str(page.relative_to(HTML)) for page in HTML.rglob("*.html") if "_static" not in page.parts
)

READ = [page for page in PAGES if page != "index.html"]  # that one only leads to the first page


@functools.cache
def soup(page: str | Path) -> BeautifulSoup:
    return BeautifulSoup((HTML / page).read_text(encoding="utf8"), "html.parser")


def is_remote(address: str) -> bool:
    return bool(re.match(r"(https?:)?//", address.strip()))


@pytest.mark.parametrize("page", PAGES)
def test_page_asks_for_nothing_remote(page):
    fetched = [
        element[attribute]
        for name in ("script", "link", "img", "iframe", "source", "video", "object", "embed")
        for element in soup(page).find_all(name)
        for attribute in ("src", "href", "data", "poster")
        if element.has_attr(attribute) and element.get("rel") != ["canonical"]
    ]
    assert [address for address in fetched if is_remote(address)] == []
    # Scripts in the page build addresses too: sphinx-thebe's and require.js's stand there.
    inline = " ".join(script.get_text() for script in soup(page).find_all("script", src=False))
    assert re.findall(r"https?://[^\s\"']*\.(?:js|css|mjs)\b", inline) == []


def test_style_sheets_ask_for_nothing_remote():
    for sheet in HTML.rglob("*.css"):
        text = re.sub(r"/\*.*?\*/", "", sheet.read_text(encoding="utf8"), flags=re.S)
        addresses = re.findall(r"url\(\s*['\"]?([^'\")]+)", text)
        addresses += re.findall(r"@import\s+['\"]([^'\"]+)", text)
        assert [address for address in addresses if is_remote(address)] == [], sheet.name


@pytest.mark.parametrize("page", PAGES)
def test_internal_links_resolve(page):
    broken = []
    targets = {}
    for element in soup(page).find_all(["a", "link", "script", "img"]):
        address = element.get("href") or element.get("src") or ""
        if not address or urlsplit(address).scheme or is_remote(address):
            continue
        path, fragment = urldefrag(address)
        path = unquote(path.split("?")[0])
        target = (HTML / page).parent / path if path else HTML / page
        if not target.is_file():
            broken.append(address)
        elif fragment and target.suffix == ".html":
            if target not in targets:
                targets[target] = {tag["id"] for tag in soup(target).find_all(id=True)}
            if unquote(fragment) not in targets[target] | {"top"}:
                broken.append(address)
    assert broken == []


@pytest.mark.parametrize("page", PAGES)
def test_page_shows_no_error(page):
    text = soup(page).get_text()
    assert "Traceback (most recent call last)" not in text
    assert not soup(page).select(".output.traceback")
    assert not soup(page).select(".system-message, .problematic")


@pytest.mark.parametrize("page", PAGES)
def test_every_image_says_what_it_shows(page):
    silent = [
        image.get("src", "")[:80]
        for image in soup(page).find_all("img")
        # The logo repeats the title beside it. Sphinx writes the path where there is no text.
        if "logo__image" not in image.get("class", [])
        and (not image.get("alt", "").strip() or image["alt"].split("/")[-1] in image["src"])
    ]
    assert silent == [], "in a notebook: cell metadata mystnb.image.alt"


def test_every_page_has_a_title_and_a_language():
    for page in READ:
        assert soup(page).html.get("lang"), page
        assert soup(page).title.get_text(strip=True), page


def test_formulas_are_set_by_the_copy_in_the_book():
    assert (HTML / "_static/mathjax/tex-chtml-full.js").is_file()
    assert (HTML / "_static/mathjax/output/chtml/fonts/woff-v2/MathJax_Main-Regular.woff").is_file()
    for page in PAGES:
        if soup(page).select(".math"):
            sources = [script.get("src", "") for script in soup(page).find_all("script")]
            assert any("_static/mathjax/" in source for source in sources), page


@pytest.mark.parametrize("paper", published_papers())
def test_every_paper_has_a_report_with_all_its_claims_headline_results_and_what_is_open(paper):
    published = load_published(paper)
    report = soup(f"chapters/report-{paper}.html")
    shown = [body["data-claim"] for body in report.select("table.claims tbody")]
    assert sorted(shown) == sorted(claim.id for claim in published.claims)
    for body in report.select("table.claims tbody"):
        assert body.select("th .verdict, td .verdict"), body["data-claim"]
        assert body.p.get_text(strip=True), "why"
    text = report.select_one("article").get_text(" ")
    for cell in published.cells:
        assert cell.id not in published.headline or cell.printed in text
    assert " ".join(published.report.believe.split()[:4]) in text
    assert f"make reproduce PAPER={paper}" in text or "Nothing: every run" in text
    assert "{{" not in text


def test_the_front_page_leads_to_every_report_and_chapter():
    links = {link["href"] for link in soup("intro.html").select("article a[href]")}
    for paper in published_papers():
        assert {f"chapters/{paper}.html", f"chapters/report-{paper}.html"} <= links


@pytest.mark.parametrize("paper", published_papers())
def test_a_report_and_its_chapter_lead_to_each_other(paper):
    links = {
        page: {
            link["href"].split("#")[0] for link in soup(f"chapters/{page}.html").select("a[href]")
        }
        for page in (paper, f"report-{paper}")
    }
    assert f"report-{paper}.html" in links[paper]
    assert f"{paper}.html" in links[f"report-{paper}"]


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("no Chromium on this system: install the package `chromium`")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address():
    """The book over HTTP: from file:// Chromium reports style sheets that it does apply."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(HTML))

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("page", READ)
def test_page_in_a_browser(browser, address, page):
    """No request leaves the book, none fails, no script complains, and formulas are set."""
    tab = browser.new_page()
    wrong = []
    tab.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
    tab.on("request", lambda request: check(request.url))
    tab.on(
        "response",
        lambda reply: wrong.append(f"{reply.status}: {reply.url}") if reply.status >= 400 else None,
    )

    def check(url: str) -> None:
        if not url.startswith((address, "data:", "blob:")):
            wrong.append(f"leaves the book: {url}")

    tab.goto(f"{address}/{page}", wait_until="networkidle")
    if tab.locator(".math").count():
        tab.wait_for_selector("mjx-container", timeout=10_000)
        assert tab.locator(".math mjx-merror, .math [data-mjx-error]").count() == 0
    tab.close()
    assert wrong == []


@pytest.mark.parametrize("page", READ)
def test_page_from_disk(browser, page):
    """Opened as a file, a page has its style, its formulas and no remote request."""
    tab = browser.new_page()
    remote = []
    tab.on("request", lambda request: remote.append(request.url))
    tab.goto((HTML / page).as_uri())
    if tab.locator(".math").count():
        tab.wait_for_selector("mjx-container", timeout=10_000)
    font = tab.evaluate("getComputedStyle(document.body).fontFamily")
    tab.close()
    assert [url for url in remote if is_remote(url)] == []
    assert "sans-serif" in font


@pytest.mark.parametrize("page", READ)
def test_page_fits_a_phone(browser, address, page):
    """Wide tables scroll in themselves: the page does not scroll sideways."""
    tab = browser.new_page(viewport={"width": 390, "height": 800})
    tab.goto(f"{address}/{page}")
    width = tab.evaluate("document.documentElement.scrollWidth")
    tab.close()
    assert width <= 390


@pytest.mark.parametrize("page", READ)
def test_tables_are_seen_whole_on_a_desk(browser, address, page):
    """Those of up to eleven columns; a wider one scrolls in itself."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.goto(f"{address}/{page}")
    cut_off = tab.evaluate(
        """[...document.querySelectorAll('.bd-article table')]
        .filter(table => table.rows[0].cells.length <= 11)
        .filter(table => table.scrollWidth > table.parentElement.clientWidth + 1)
        .map(table => table.innerText.slice(0, 80))"""
    )
    tab.close()
    assert cut_off == []


def test_the_front_page_shows_every_headline_result_without_scrolling_in_a_box(browser, address):
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.goto(f"{address}/intro.html")
    shown, whole = tab.evaluate(
        """(box => [box.clientHeight, box.scrollHeight])(
        document.querySelector('table.headlines').parentElement)"""
    )
    tab.close()
    assert 900 < whole <= shown + 1


def test_on_a_phone_the_headline_results_show_all_their_columns(browser, address):
    tab = browser.new_page(viewport={"width": 390, "height": 800})
    tab.goto(f"{address}/intro.html")
    within, wide = tab.evaluate(
        """(table => [table.parentElement.clientWidth, table.scrollWidth])(
        document.querySelector('table.headlines'))"""
    )
    tab.close()
    assert wide <= within + 1
