"""The site: what becomes a page, without a build; and with one (`make site`), what a browser makes of every page.

The second part needs what .venv-site holds, and Chromium or Chrome; without them its tests are skipped, and say so.
"""

import importlib.util
import json
import re
import runpy
import shutil
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "site" / "build"
spec = importlib.util.spec_from_file_location("pages", ROOT / "site" / "pages.py")
pages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pages)
NOTEBOOKS = pages.notebooks()
CourseError = pages.CourseError


def cell(kind: str, source: str, *outputs: dict) -> dict:
    return {"cell_type": kind, "source": source} | ({"outputs": list(outputs)} if kind == "code" else {})


def printed(text: str) -> dict:
    return {"output_type": "stream", "name": "stdout", "text": [text]}


def picture(**about) -> dict:
    return {"output_type": "execute_result", "data": {"image/png": "AA==", "text/plain": "x"}, "metadata": about}


@pytest.fixture
def small(tmp_path):
    """Makes a repository with a README and one notebook of these cells; returns the notebook's page and the site."""

    def make(*cells: dict, readme: str = "# A\n\n## Use\n\n## The course\n\nx\n", **options):
        root = tmp_path / "repository"
        (root / "notebooks").mkdir(parents=True)
        (root / "README.md").write_text(readme)
        (root / "code.py").touch()
        (root / "notebooks" / "00_a.ipynb").write_text(json.dumps({"cells": [cell("markdown", "# Title"), *cells]}))
        site = pages.Site(tmp_path / "source", root=root, deck=root / "deck.html", **options)
        site.write()
        return (tmp_path / "source" / "00_a.md").read_text(), site

    return make


def test_every_notebook_and_text_is_in_the_contents(tmp_path):
    pytest.importorskip("griffe", reason="griffe is in .venv-site: make site")
    names = pages.Site(tmp_path / "source").write()
    index = (tmp_path / "source" / "index.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\w\d .+ <(\w+)>$", index, flags=re.MULTILINE)
    assert listed == [path.stem for path in NOTEBOOKS] and len(listed) >= 7
    beside = [page for path, (page, _) in pages.TEXTS.items() if (ROOT / path).is_file()]
    assert {"setup", "own-data", "teaching", "measurements", "data-cards", "contributing"} <= set(beside)
    assert re.findall(r"^.+ <([\w-]+)>$", index, flags=re.MULTILINE) == [*listed, *beside]
    reference = re.findall(r"^(api-\w+)$", index, flags=re.MULTILINE)
    assert set(names) == {"index", *listed, *beside, *reference} and "api-data" in reference
    assert "Load" in (tmp_path / "source" / "api-models.md").read_text(encoding="utf-8")


def test_the_reference_has_every_exported_name():
    griffe = pytest.importorskip("griffe", reason="griffe is in .venv-site: make site")
    package, written = griffe.load("llmcourse", search_paths=[ROOT], allow_inspection=False), pages.api.pages(ROOT)
    for room in pages.api.ROOMS:
        headings = re.findall(r"^## (\w+)$", written[f"api-{room}"], flags=re.MULTILINE)
        assert headings and headings == [str(name) for name in package[room].exports]


def test_the_configuration_loads_and_names_nothing_of_the_network():
    conf = runpy.run_path(str(ROOT / "site" / "conf.py"))
    assert conf["html_theme"] == "furo" and callable(conf["setup"])
    for name in conf["html_css_files"] + conf["html_js_files"]:
        assert "//" not in re.sub("^//.*", "", (ROOT / "site" / "static" / name).read_text(), flags=re.MULTILINE)


def test_links_lead_to_pages_and_the_others_to_the_repository(small):
    text = (
        "## Wide, wide\n\n[a](#Wide,-wide) [b](../README.md#use) [c](../README.md) [d](https://x.org) [e](../code.py)"
        "\n\n```\n[f](nowhere)\n```\n<!-- for a script -->"
    )
    page, site = small(cell("markdown", text))
    assert "[a](00_a.md#wide-wide) [b](index.md#use) [c](index.md) [d](https://x.org) e\n" in page
    assert "[f](nowhere)" in page and "<!--" not in page
    site.repository = "who/what"
    assert "[e](https://github.com/who/what/blob/main/code.py)" in site.text(text, notebook_of(site))
    for wrong in ("[x](nowhere.md)", "![x](nowhere.png)", "![x](https://x.org/a.png)"):
        with pytest.raises(CourseError, match="00_a"):
            site.text(wrong, notebook_of(site))


def notebook_of(site):
    return site.root / "notebooks" / "00_a.ipynb"


def test_a_notebook_says_where_it_runs_without_a_remote_badge(small):
    page, site = small(cell("markdown", pages.origin.BADGE.format(repository="o/n", name="00_a.ipynb") + "\n\nrest"))
    assert "colab" not in page and "{download}`Download this notebook <00_a.ipynb>`" in page and "rest" in page
    site.repository = "o/n"
    page = site.notebook(notebook_of(site))
    assert page.count("https://colab.research.google.com/github/o/n/blob/main/notebooks/00_a.ipynb") == 1
    assert "colab-badge" not in page


def test_cells_and_outputs(small):
    page, _ = small(
        cell("code", pages.origin.cell(None)),
        cell("code", "# NBVAL_CHECK_OUTPUT\nprint(1)\nprint('```')", printed("one\n"), printed("```\n")),
        cell("code", "draw()", picture(**{"image/png": {"alt": 'A: "b"\n# [c]'}})),
        cell(
            "code",
            "more()",
            {"output_type": "display_data", "metadata": {}, "data": {"text/plain": "Controls <here>."}},
        ),
        cell("code", "html()", {"output_type": "display_data", "metadata": {}, "data": {"text/html": "<b>x</b>"}}),
        cell("code", "long()", printed("word " * 30)),
    )
    assert '<details class="setup">' in page and page.count("<details") == 1
    assert "NBVAL" not in page and '````{code-block} text\n:class: "output"\n\none\n```\n````' in page
    assert r':alt: "A: \"b\" # [c]"' in page
    assert '<p class="instead">Controls &lt;here&gt;.</p>' in page and '<div class="output"><b>x</b></div>' in page
    assert ':class: "output wrapped"' in page


@pytest.mark.parametrize(
    "output",
    [
        picture(),
        {"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []},
        {"output_type": "display_data", "metadata": {}, "data": {"application/x-new": "x", "text/plain": "x"}},
    ],
    ids=["no alternative text", "an error", "a new kind"],
)
def test_an_output_that_no_page_can_show_is_refused(small, output):
    with pytest.raises(CourseError, match="00_a-01-0"):
        small(cell("code", "x", output))


def test_the_deck_is_linked_where_it_was_built(small, tmp_path):
    _, site = small()
    assert "deck" not in (site.folder / "index.md").read_text()
    link, readme = "[slides](deck.html)", site.root / "README.md"
    assert site.text(link, readme) == "slides"
    site.deck.write_text("<title>Deck</title>")
    site.write()
    assert site.text(link, readme) == "[slides](beside:deck.html)"
    assert "[open the deck](beside:deck.html)" in (site.folder / "index.md").read_text()
    assert (site.folder / "deck.html").read_text() == "<title>Deck</title>"


def pins(name: str) -> dict[str, str]:
    lines = [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    return {re.sub("[-_.]+", "-", line.partition("==")[0]).lower(): line.partition("==")[2] for line in lines}


def test_the_environment_is_pinned_and_agrees_with_the_course():
    own, course = pins("site/requirements.txt"), pins("constraints.txt")
    assert {name for name, version in own.items() if not version} <= set(course)
    assert {name for name in set(own) & set(course) if own[name] and own[name] != course[name]} == set()
    if importlib.util.find_spec("furo"):  # in the site's own environment: nothing came along unpinned
        have = {re.sub("[-_.]+", "-", one.name).lower() for one in metadata.distributions()}
        assert have - set(own) - set(course) <= {
            "pip",
            "setuptools",
            "wheel",
            "llmcourse",
        }  # the last by its egg-info beside the sources


# ---- The built site ----

PAGES = sorted(path for path in BUILD.glob("*.html") if path.name != pages.DECK.name)
LOOKED_AT = [path for path in PAGES if not path.stem.startswith("api-") or path.stem == "api-data"]
"""Pages to open in a browser. The pages of the reference are all of one kind."""
NOT_BUILT = pytest.param(None, marks=pytest.mark.skip("the site was not built: make site"))
each_page, each_look = (
    pytest.mark.parametrize("page", paths or [NOT_BUILT], ids=lambda path: path.stem if path else "none")
    for paths in (PAGES, LOOKED_AT)
)


class Parsed(HTMLParser):
    """Of a page: its ids, where its links, pictures and scripts lead, and the alternative texts of its pictures."""

    def __init__(self, path: Path):
        super().__init__()
        self.ids, self.links, self.alts = [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "img":
            self.alts.append(found.get("alt"))
        if tag in ("a", "img", "link", "script"):
            self.links += [found[name] for name in ("href", "src") if name in found]


def test_the_first_page_leads_to_the_deck():
    if not (BUILD / pages.DECK.name).is_file():
        pytest.skip("the site was built without the deck")
    assert pages.DECK.name in Parsed(BUILD / "index.html").links


@each_page
def test_no_markdown_is_left_over(page):
    text = re.sub(r"<(pre|code|title)\b.*?</\1>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert re.findall(r".{0,40}\]\(.{0,40}|.{0,20}\*\*.{0,20}", re.sub("<[^>]*>", "", text)) == []


@each_page
def test_links_of_a_page_lead_somewhere(page):
    dead = []
    for link in Parsed(page).links:
        name, anchor = urldefrag(link)
        if re.match(r"[a-z]+:", name):
            continue
        target = (page.parent / unquote(name).partition("?")[0]).resolve() if name else page
        if not target.is_file() or (anchor and unquote(anchor) not in Parsed(target).ids):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_s_page_has_all_of_it(path):
    if not PAGES:
        pytest.skip("the site was not built: make site")
    page = BUILD / f"{path.stem}.html"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [output for one in cells if one["cell_type"] == "code" for output in one["outputs"]]
    alts = [" ".join(o["metadata"]["image/png"]["alt"].split()) for o in outputs if "image/png" in o.get("data", {})]
    parsed = Parsed(page)
    assert parsed.alts == alts
    text = page.read_text(encoding="utf-8")
    assert len(re.findall("<h1", text)) == 1
    code = [one for one in cells if one["cell_type"] == "code"]
    assert len(re.findall(r'class="cell highlight-', text)) == len(code)
    folded = [
        one
        for one in cells
        if one["cell_type"] == "markdown"
        for _ in re.findall("^<details>", "".join(one["source"]), re.M)
    ]
    assert len(re.findall("<details", text)) == len(folded) + 1 and "<details open" not in text
    texts = ["".join(one["source"]) for one in cells if one["cell_type"] == "markdown"]
    formulas = sum(len(re.findall(r"\$\$.+?\$\$|\$[^$\n]+\$", source, flags=re.DOTALL)) for source in texts)
    assert len(re.findall("<math", text)) == formulas
    place = NOTEBOOKS.index(path)
    near = [
        NOTEBOOKS[place - 1].stem if place else "index",
        NOTEBOOKS[place + 1].stem if path != NOTEBOOKS[-1] else "setup",
    ]
    assert [f'{kind}-page" href="{stem}.html"' in text for kind, stem in zip(("prev", "next"), near, strict=True)] == [
        True,
        True,
    ]


@pytest.fixture(scope="module")
def browser():
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is in .venv-site: make site")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("no Chromium and no Chrome is installed")
    with sync.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser):
    """Opens an address in a fresh window. What goes wrong there is kept in `page.wrong`: errors, and requests to
    elsewhere."""
    contexts = []

    def open_(address: str, width: int = 1280, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, **options))
        tab = contexts[-1].new_page()
        tab.wrong = []
        home = address.rpartition("/")[0] + "/"
        tab.on("console", lambda message: message.type in ("error", "warning") and tab.wrong.append(message.text))
        tab.on("pageerror", lambda error: tab.wrong.append(str(error)))
        tab.on("request", lambda request: request.url.startswith((home, "data:")) or tab.wrong.append(request.url))
        tab.on("requestfailed", lambda request: tab.wrong.append(f"failed: {request.url}"))
        tab.goto(address)
        return tab

    yield open_
    for context in contexts:
        context.close()


def axe() -> str:
    import axe_playwright_python

    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def grave(tab) -> list[str]:
    """What axe-core finds serious or critical on a page."""
    tab.evaluate("() => document.querySelectorAll('details').forEach(one => one.open = true)")
    tab.evaluate(axe())
    found = tab.evaluate("() => axe.run({resultTypes: ['violations'], preload: false})")["violations"]
    return [
        f"{one['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@each_look
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_works_from_a_disk_and_is_accessible(page, scheme, opened):
    tab = opened(page.as_uri(), color_scheme=scheme)
    assert grave(tab) == []
    assert tab.wrong == []


@each_look
def test_a_page_fits_a_phone(page, opened):
    tab = opened(page.as_uri(), width=360, is_mobile=True, has_touch=True)
    tab.evaluate("() => document.querySelectorAll('details').forEach(one => one.open = true)")
    # in Furo .content would scroll, not the body
    wide = """() => [document.documentElement, document.body, document.querySelector('.content')]
        .map(one => one.scrollWidth)"""
    assert tab.evaluate(wide) == [360, 360, 360]
    assert grave(tab) == []


@pytest.mark.parametrize("width", [1000, 1280, 1320, 1440, 1920])
def test_nothing_reaches_beyond_a_window(width, opened):
    if not PAGES:
        pytest.skip("the site was not built: make site")
    tab = opened((BUILD / "02_prompting.html").as_uri(), width=width)
    edges = (
        "() => ['.content', '.toc-scroll', 'article'].map(one => document.querySelector(one).getBoundingClientRect())"
    )
    shown = [
        box for box in tab.evaluate(edges) if box["left"] < width
    ]  # the contents of a page are outside until called
    assert len(shown) >= 2 and all(box["right"] <= width for box in shown)


@each_look
def test_a_page_prints_black_on_white_and_whole(page, opened):
    tab = opened(page.as_uri(), width=700, color_scheme="dark")
    tab.emulate_media(media="print", color_scheme="dark")
    seen = tab.evaluate("""() => {
        const of = (selector) => [...document.querySelectorAll(selector)];
        const seen = (one) => one.getClientRects().length > 0;
        return {
            ground: getComputedStyle(document.body).backgroundColor,
            ink: getComputedStyle(document.querySelector("article") ?? document.body).color,
            around: of(".sidebar-drawer, .toc-drawer, .mobile-header, .related-pages, .ways, details.setup")
                .filter(seen).length,
            cut: of("article pre").filter(seen).filter((one) => one.scrollWidth > one.clientWidth + 1).length,
            folded: of("article details:not(.setup) p, article details:not(.setup) pre")
                .filter((one) => !seen(one)).length,
        };
    }""")
    assert seen == {"ground": "rgb(255, 255, 255)", "ink": "rgb(0, 0, 0)", "around": 0, "cut": 0, "folded": 0}


@pytest.fixture(scope="module")
def server():
    """The site on this machine's own address, as a web server would hand it out."""
    if not PAGES:
        pytest.skip("the site was not built: make site")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = partial(Quiet, directory=str(BUILD))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


@pytest.mark.parametrize("way", ["disk", "server"])
def test_the_search_finds(way, opened, server):
    home = BUILD.as_uri() if way == "disk" else server
    tab = opened(f"{home}/search.html?q=calibration")
    tab.get_by_text("Search finished").wait_for()  # results come one by one
    found = tab.eval_on_selector_all("ul.search li a", "all => all.map(one => one.getAttribute('href'))")
    assert any("05_sarcasm_demo.html" in one for one in found) and any("02_prompting.html" in one for one in found)
    tab.wait_for_timeout(500)  # extracts are fetched after the titles
    assert (tab.locator("ul.search li p.context").count() > 0) == (way == "server")
    assert tab.wrong == []


def test_light_and_dark_can_be_chosen(opened):
    if not PAGES:
        pytest.skip("the site was not built: make site")
    tab = opened((BUILD / "index.html").as_uri(), color_scheme="light")
    ground = "() => getComputedStyle(document.body).backgroundColor"
    first = tab.evaluate(ground)
    grounds = set()
    for _ in range(3):
        tab.locator(".theme-toggle:visible").first.click()
        grounds.add(tab.evaluate(ground))
    assert first in grounds and len(grounds) == 2
