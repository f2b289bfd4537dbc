"""What becomes a page of the site: notebooks and texts of the repository as MyST sources, with the links among them.

    python site/pages.py build/site      # writes build/site/*.md and the files that they show

Notebooks come with the outputs that they were saved with; nothing is run, and no notebook package is needed. A picture's alternative
text is the one that its output carries. What a page links to and is no page goes to the repository on GitHub, or is plain text as
long as the course has no address there.
"""

import base64
import html
import json
import re
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from llmcourse import CourseError  # noqa: E402
from tools import origin  # noqa: E402

DECK = ROOT / "slides" / "build" / "finetune-llms.html"
COURSE = "## The course"
"""The section of README that belongs to the landing page, beside what stands above the first section."""

TEXTS = {
    "benchmarks/README.md": ("measurements", "Measurements"),
    "llmcourse/data/corpora/README.md": ("data-cards", "Data cards"),
    "CONTRIBUTING.md": ("contributing", "How it is built"),
    "TRUST.md": ("trust", "Trust"),
    "SECURITY.md": ("security", "Security"),
}
"""Texts beside README that become pages, those that are there -> the pages' names, and their titles in the contents."""
WRAPPED = 100
"""Characters: an output with longer lines is prose and is wrapped; shorter ones may be tables, and scroll where they are too wide."""

_FENCED = re.compile(r"^(`{3,}|~{3,})[^\n]*\n.*?^\1[ \t]*$", flags=re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?P<picture>!?)\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^()\s]+)\)")
_COMMENT = re.compile(r"<!--.*?-->\n?", flags=re.DOTALL)
_BADGE = re.compile(r"^\[!\[Open in Colab\]\(.*\n*", flags=re.MULTILINE)
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", flags=re.MULTILINE)


def notebooks(root: Path = ROOT) -> list[Path]:
    """The course's notebooks in their order."""
    return sorted((root / "notebooks").glob("*.ipynb"))


def texts(root: Path = ROOT) -> dict[Path, str]:
    """Files that become pages of their own beside README -> names of their pages."""
    return {root / name: page for name, (page, _) in TEXTS.items() if (root / name).is_file()}


def slug(heading: str) -> str:
    """The anchor of a heading: GitHub's rule, which MyST shares. Jupyter's anchors (hyphens for spaces) come out the same."""
    plain = re.sub(r"[*_`]|\[(.*?)\]\(.*?\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")


def title(path: Path) -> str:
    """A notebook's first heading."""
    return _HEADING.search("".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]))[1]


def split_readme(text: str) -> tuple[str, str]:
    """README as two pages: the landing page (what stands above the first section, and the course), and the other sections.

    Raises CourseError if README has no section on the course.
    """
    start, *sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    course = [section for section in sections if section.startswith(COURSE + "\n")]
    if len(course) != 1:
        raise CourseError(f"README.md: {len(course)} sections {COURSE!r}, the site's first page needs one.")
    others = [section for section in sections if section is not course[0]]
    return start + course[0], "".join(["# Set-up and use\n\n", *others])


class Site:
    """Writes the sources into a folder. `repository` is owner/name on GitHub, None as long as there is none."""

    def __init__(self, folder: Path, root: Path = ROOT, repository: str | None = None, deck: Path = DECK):
        self.folder, self.root, self.repository, self.deck = folder, root, repository, deck
        self.names = {path: path.stem for path in notebooks(root)} | texts(root)
        self.names[root / "README.md"] = "index"
        start, self.use = split_readme((root / "README.md").read_text(encoding="utf-8"))
        self.start = start

    def write(self) -> list[str]:
        """Write every page anew, into an empty folder. Returns the names of the pages."""
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        readme = self.root / "README.md"
        pages = {"index": self.landing(), "use": self.text(self.use, readme)}
        for path, name in self.names.items():
            if path.suffix == ".ipynb":
                pages[name] = self.notebook(path)
            elif path != readme:
                pages[name] = self.text(path.read_text(encoding="utf-8"), path)
        for name, page in pages.items():
            (self.folder / f"{name}.md").write_text(page, encoding="utf-8")
        return list(pages)

    def landing(self) -> str:
        """The first page: README's start, the way to the deck, and the contents for the side of every page."""
        parts = [self.text(self.start, self.root / "README.md")]
        if self.deck.is_file():
            shutil.copyfile(self.deck, self.folder / self.deck.name)
            parts.append(
                f"The talk as slides, in one file that works offline: [open the deck](beside:{self.deck.name})."
            )
        course = [f"{path.stem[:2]} {title(path)} <{path.stem}>" for path in notebooks(self.root)]
        beside = [f"{title} <{page}>" for path, (page, title) in TEXTS.items() if (self.root / path).is_file()]
        parts += [contents("The course", course), contents("Beside the notebooks", ["use", *beside])]
        return "\n\n".join(parts) + "\n"

    def text(self, source: str, path: Path) -> str:
        """A text of the repository at `path` as the text of a page: links led to pages, comments and badges left out.

        Raises CourseError for a link to a file that is not there and for a picture that the site would have to fetch.
        """
        source = _BADGE.sub("", source)
        parts, end = [], 0
        for block in _FENCED.finditer(source):
            parts += [self._led(source[end : block.start()], path), block[0]]
            end = block.end()
        return "".join([*parts, self._led(source[end:], path)])

    def _led(self, source: str, path: Path) -> str:
        return _LINK.sub(lambda link: self._link(link, path), _COMMENT.sub("", source))

    def _link(self, link: re.Match, path: Path) -> str:
        text, target = link["text"], link["target"]
        if re.match(r"[a-z]+:", target):
            if link["picture"]:
                raise CourseError(f"{path.name}: the picture {target} is not in the repository.")
            return link[0]
        name, _, anchor = target.partition("#")
        anchor = slug(unquote(anchor))
        found = (path.parent / unquote(name)).resolve() if name else path
        if found == self.deck:
            return f"[{text}](beside:{self.deck.name})" if found.is_file() else text
        if not found.exists():
            raise CourseError(f"{path.name}: the link {target} leads to no file.")
        if link["picture"]:
            shutil.copyfile(found, self.folder / found.name)
            return f"![{text}]({found.name})"
        if found in self.names:
            page = self.names[found]
            if page == "index" and anchor and anchor in map(slug, _HEADING.findall(self.use)):
                page = "use"
            return f"[{text}]({page}.md{'#' + anchor if anchor else ''})"
        if self.repository:
            kind = "tree" if found.is_dir() else "blob"
            where = found.relative_to(self.root).as_posix()
            return f"[{text}](https://github.com/{self.repository}/{kind}/main/{where})"
        return text

    def notebook(self, path: Path) -> str:
        """A notebook as the text of a page: its cells, and below each the outputs that it was saved with."""
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        heading, _, rest = self.text("".join(cells[0]["source"]), path).partition("\n")
        parts = [heading, self.ways(path), rest.strip()]
        for number, cell in enumerate(cells[1:], start=1):
            source = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                parts.append(self.text(source, path))
                continue
            code = directive("code-block", "python", {"class": "cell"}, re.sub(r"\A# NBVAL\w+\n", "", source))
            if source.startswith(origin.MARK):
                code = f'<details class="setup">\n<summary>Set-up, for a running notebook</summary>\n\n{code}\n\n</details>'
            parts.append(code)
            outputs = enumerate(merged(cell["outputs"]))
            parts += [self.output(one, f"{path.stem}-{number:02}-{nth}") for nth, one in outputs]
        return "\n\n".join(parts) + "\n"

    def ways(self, path: Path) -> str:
        """The line below a notebook's title: where it can be run."""
        shutil.copyfile(path, self.folder / path.name)
        ways = [f"{{download}}`Download this notebook <{path.name}>`"]
        if self.repository:
            colab = origin.COLAB.format(repository=self.repository, name=path.name)
            ways.insert(0, f"[Open in Colab]({colab})")
        return "{.ways}\n" + " ".join(ways)

    def output(self, output: dict, name: str) -> str:
        """One output of a cell. Raises CourseError for a kind that no page can show, and for a picture without alternative text."""
        kind = output["output_type"]
        if kind == "stream":
            return printed("".join(output["text"]))
        if kind not in ("display_data", "execute_result"):
            raise CourseError(f"{name}: an output of the kind {kind}. Run the notebook again: make notebooks")
        data = {kind: "".join(value) for kind, value in output["data"].items()}
        if "image/png" in data:
            alt = output["metadata"].get("image/png", {}).get("alt")
            if not alt:
                raise CourseError(f"{name}: a picture without an alternative text.")
            (self.folder / f"{name}.png").write_bytes(base64.b64decode(data["image/png"]))
            return directive("image", f"{name}.png", {"alt": " ".join(alt.split()), "class": "output"})
        if "text/html" in data:
            return directive("raw", "html", {}, f'<div class="output">{data["text/html"]}</div>')
        if set(data) != {"text/plain"}:
            raise CourseError(f"{name}: an output of the kinds {', '.join(data)}, which the site cannot show.")
        if kind == "display_data":  # the sentence that stands where a running notebook has controls
            return directive("raw", "html", {}, f'<p class="instead">{html.escape(data["text/plain"])}</p>')
        return printed(data["text/plain"])


def merged(outputs: list[dict]) -> list[dict]:
    """The outputs of a cell, with what was printed in several goes as one."""
    found = []
    for output in outputs:
        if found and output["output_type"] == found[-1]["output_type"] == "stream":
            found[-1] = {**output, "text": [*found[-1]["text"], *output["text"]]}
        else:
            found.append(output)
    return found


def printed(text: str) -> str:
    """What a cell printed."""
    long = max(map(len, text.splitlines()), default=0) > WRAPPED
    return directive("code-block", "text", {"class": "output wrapped" if long else "output"}, text)


def contents(caption: str, entries: list[str]) -> str:
    """A part of the contents, shown at the side of every page."""
    return directive("toctree", "", {"hidden": True, "caption": caption, "maxdepth": 1}, "\n".join(entries))


def directive(name: str, argument: str, options: dict, body: str = "") -> str:
    """A MyST directive. Its fence is longer than any in the body; option values are quoted as JSON, which MyST reads."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall(r"`{3,}", body))])
    lines = [f"{fence}{{{name}}} {argument}".rstrip()]
    lines += [
        f":{key}: {'' if value is True else json.dumps(value, ensure_ascii=False)}".rstrip()
        for key, value in options.items()
    ]
    return "\n".join([*lines, "", body.strip("\n"), fence])


if __name__ == "__main__":
    try:
        print(f"{len(Site(Path(sys.argv[1]), repository=origin.repository(ROOT)).write())} pages")
    except CourseError as error:
        sys.exit(f"site: {error}")
