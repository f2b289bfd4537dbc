"""Pages made of hostile rows, labels and answers: nothing runs, nothing is fetched, no text turns the direction of its
neighbours."""

import html
import re
import shutil
import subprocess
import threading
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcourse import figures
from llmcourse.data import Rows, screen
from llmcourse.data.tasks import Task
from llmcourse.experiment import Arm, Experiment, metrics, report
from llmcourse.lessons.widgets import errors
from llmcourse.predict import Generated

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OVERRIDE = "\u202etxet\u2069\u2069\u202c\u2066"


def payloads(address="http://127.0.0.1:9") -> list[str]:
    do = f"document.title='pwned';document.documentElement.dataset.pwned=1;fetch('{address}/ran')"
    return [
        f"<script>{do}</script>",
        f"<img src={address}/img onerror=\"{do}\">",
        f'"><svg onload="{do}">',
        f"'><input autofocus onfocus=\"{do}\">",
        f"</pre></style></title></textarea><script>{do}</script>",
        f"--><script>{do}</script>]]><script>{do}</script>",
        f"<style>@import url({address}/css)</style><link rel=stylesheet href={address}/link>",
        f"<iframe src={address}/frame></iframe><base href={address}/>",
        f"<a href=\"javascript:{do}\">x</a><meta http-equiv=refresh content=\"0;url={address}/meta\">",
        "{{ 7*7 }}{% for x in y %}",
        "</bdi></bdi></p>",
        OVERRIDE,
        r"$\frac{1}{$ $x^2$",
    ]  # fmt: skip


def hostile_experiment(loaded, folder, bad) -> tuple[Experiment, list[Arm]]:
    task = Task(
        "hostile",
        "Sort it.",
        {"message": "field " + bad[0]},
        (bad[1], bad[2], bad[11], bad[12]),
        example={"message": bad[3] + OVERRIDE, "label": 2},
    )

    def rows(start, count):
        return [
            {"message": f"m {i} {bad[i % len(bad)]}", "label": i % 4, "row": i} for i in range(start, start + count)
        ]

    loaded.base = {"name": bad[4], "sha256": bad[5]}
    study = Experiment(Rows(task, bad[6] + OVERRIDE, rows(0, 26), rows(50, 26), {}), loaded, folder, quiet=True)
    arms = []
    for place, kind in enumerate(("baseline", "prompted", "finetuned")):
        labels = [(label + place) % 4 if i % 3 else None for i, label in enumerate(study.gold())]
        score = metrics.evaluate(study.gold(), labels, task.labels)
        said = Generated(labels, 1.0, texts=[bad[i % len(bad)] for i in range(26)])
        training = {"losses": [1.0, 0.5], "seconds": 1.0, "trainable": 1, "recipe": {bad[7]: bad[8]}}
        arm = Arm(f"arm {place} {bad[7 + place]}", kind, {"test": study.rows.test_id}, said, score, bad[9] + bad[10])
        arm.training = training if kind == "finetuned" else None
        arms.append(arm)
    study.arms = arms
    return study, arms


def pages(study, arms) -> dict[str, str]:
    """The report, and what the widgets show, as a notebook would put it on its page."""
    browser = errors.ErrorBrowser(study, arms)
    shown = []
    for arm in arms:
        browser.arm.value = arm.name
        for _ in browser.errors:
            shown.append(browser.shown.value)
            browser.next.click()
    wrong = figures.svg(errors.first_errors(study, arms[0]))
    verdicts = figures.svg(figures.verdicts({arm.name: [0.25] * 4 for arm in arms}, study.task.labels))
    tables = {arm.name: metrics.confusion(study.gold(), arm.predictions.labels, study.task.labels) for arm in arms}
    drawn = wrong + verdicts + figures.svg(figures.confusions(tables, study.task.labels))
    page = "<!doctype html><meta charset=utf-8><title>widgets</title>" + "".join(shown) + drawn
    return {"report": report.render(study, study.results()), "widgets": page}


@pytest.fixture
def study(tiny, tmp_path):
    return hostile_experiment(tiny, tmp_path, payloads())


class Tags(HTMLParser):
    """The tags and attributes that a browser would see."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes = set(), []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs


def test_texts_stay_texts(study):
    for name, page in pages(*study).items():
        seen = Tags(page)
        assert not seen.tags & {"script", "img", "iframe", "base", "link", "input", "a", "object", "embed"}, name
        assert ("meta" not in seen.tags) or not any(
            attribute == ("http-equiv", "refresh") for attribute in seen.attributes
        )
        assert not [key for key, _ in seen.attributes if key.startswith("on")], name
        assert not screen._DIRECTIONS.search(page), name
        text = html.unescape(page)
        assert "[U+202E]txet" in text and "<script>document.title" in text  # they are there, as text
        assert "{{ 7*7 }}" in text


def test_a_dollar_is_a_dollar(study):
    """Labels and texts with a $ were read as formulas, and some of them stopped the report."""
    assert r"$\frac{1}{$ $x^2$" in html.unescape(pages(*study)["report"])


@settings(deadline=None, max_examples=200)
@given(st.text() | st.sampled_from(payloads()))
def test_any_text_as_html_is_that_text_set_apart(text):
    made = screen.html(text)
    seen = Tags(made)
    assert seen.tags == {"bdi"} and not seen.attributes
    inner = made.removeprefix("<bdi>").removesuffix("</bdi>")
    assert "<" not in inner and not screen._DIRECTIONS.search(inner)
    again = re.sub(r"\[U\+(20[26][0-9A-E])\]", lambda found: chr(int(found[1], 16)), html.unescape(inner))
    assert again == text or "[U+" in text


# -- in a browser ----------------------------------------------------------------------------------------------------


class Server:
    """Notes every address that a page asks for."""

    def __enter__(self):
        asked = self.asked = []

        class Note(BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                self.send_response(404)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Note)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def dom(path, folder) -> str:
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={folder}",
            "--virtual-time-budget=3000",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "<html" in done.stdout, done.stderr[-2000:]
    return done.stdout


browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.mark.trust
@browser
def test_nothing_runs_and_nothing_is_fetched(tiny, tmp_path):
    with Server() as server:
        bad = payloads(server.address)
        # the same texts unescaped do run and do fetch: what follows can fail
        control = tmp_path / "control.html"
        control.write_text("<!doctype html><meta charset=utf-8><title>control</title>" + "".join(bad[:2]), "utf-8")
        seen = dom(control, tmp_path / "profile")
        assert "data-pwned" in seen and "<title>pwned" in seen
        assert server.asked
        server.asked.clear()
        study, arms = hostile_experiment(tiny, tmp_path / "runs", bad)
        for name, page in pages(study, arms).items():
            path = tmp_path / f"{name}.html"
            path.write_text(page, encoding="utf-8")
            seen = dom(path, tmp_path / "profile")
            assert "data-pwned=" not in seen.split("<body", 1)[0] and "<title>pwned" not in seen, name
            assert "[U+202E]txet" in seen, name
        assert not server.asked


@pytest.mark.trust
@browser
def test_an_override_does_not_turn_its_neighbours(tmp_path):
    """Where "12345" after a text stands, and in which order its digits, as Chromium lays them out."""
    measure = """
<script>
for (const p of document.querySelectorAll('p')) {
  const after = p.lastChild, range = document.createRange();
  const left = i => {
    range.setStart(after, i); range.setEnd(after, i + 1); return range.getBoundingClientRect().left;
  };
  p.setAttribute('data-order', left(1) < left(5) ? 'kept' : 'turned');
}
</script>"""
    page = tmp_path / "a.html"
    start = "<!doctype html><meta charset=utf-8>"
    for text, expected in (
        (html.escape(OVERRIDE), "turned"),
        (screen.html(OVERRIDE), "kept"),
        (screen.html("שלום"), "kept"),
    ):
        page.write_text(f"{start}<p>{text} abcde</p>{measure}", encoding="utf-8")
        assert f'data-order="{expected}"' in dom(page, tmp_path / "profile"), text
