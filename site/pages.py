"""Write the site's pages: notebooks, texts and reference as MyST sources, with links between them.

    python site/pages.py build/site      # writes build/site/*.md and the files that they show

Notebooks keep the outputs that they were saved with. Nothing is run, and no notebook package is needed. A picture's
alternative text comes from its output. A link to a file that is not a page goes to the repository on GitHub, or becomes
plain text as long as the course has no address there.
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
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "site")) if path not in sys.path]

import api  # noqa: E402

from llmcourse import CourseError  # noqa: E402
from tools import origin  # noqa: E402

DECK = ROOT / "slides" / "build" / "finetune-llms.html"
TEXTS = {
    "docs/setup.md": ("setup", "Set-up"),
    "docs/own-data.md": ("own-data", "Your own data and models"),
    "docs/troubleshooting.md": ("troubleshooting", "When something fails"),
    "notebooks/INDEX.md": ("terms", "Index of terms"),
    "slides/INSTRUCTORS.md": ("teaching", "Teaching this course"),
    "benchmarks/README.md": ("measurements", "Measurements"),
    "llmcourse/data/corpora/README.md": ("data-cards", "Data cards"),
    "CHANGELOG.md": ("changes", "What changed"),
    "CONTRIBUTING.md": ("contributing", "How it is built"),
    "TRUST.md": ("trust", "Trust"),
    "SECURITY.md": ("security", "Security"),
    "docs/publishing.md": ("publishing", "Publish your copy"),
}
"""Texts beside README that become pages if they exist: file -> the page's name, and its title in the contents."""
WRAPPED = 100
"""An output with lines of more characters is prose and is wrapped. Others may be tables, which scroll if too wide."""

_FENCED = re.compile(r"^(`{3,}|~{3,})[^\n]*\n.*?^\1[ \t]*$", flags=re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?P<picture>!?)\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^()\s]+)\)")
_COMMENT = re.compile(r"<!--.*?-->\n?", flags=re.DOTALL)
_BADGE = re.compile(r"^\[!\[Open in Colab\]\(.*\n*", flags=re.MULTILINE)
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", flags=re.MULTILINE)


def notebooks(root: Path = ROOT) -> list[Path]:
    """Return the course's notebooks in order."""
    return sorted((root / "notebooks").glob("*.ipynb"))


def texts(root: Path = ROOT) -> dict[Path, str]:
    """Return the texts beside README that become pages, with the names of their pages."""
    return {root / name: page for name, (page, _) in TEXTS.items() if (root / name).is_file()}


def slug(heading: str) -> str:
    """Return the anchor of a heading by GitHub's rule, which MyST shares. Jupyter's anchors give the same."""
    plain = re.sub(r"[*_`]|\[(.*?)\]\(.*?\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")


def title(path: Path) -> str:
    """Return a notebook's first heading."""
    return _HEADING.search("".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]))[1]


class Site:
    """Writes the sources into a folder. `repository` is owner/name on GitHub, or None."""

    def __init__(self, folder: Path, root: Path = ROOT, repository: str | None = None, deck: Path = DECK):
        self.folder, self.root, self.repository, self.deck = folder, root, repository, deck
        self.names = {path: path.stem for path in notebooks(root)} | texts(root)
        self.names[root / "README.md"] = "index"

    def write(self) -> list[str]:
        """Empty the folder, write every page into it, and return the names of the pages."""
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        reference = api.pages(self.root) if (self.root / "llmcourse" / "__init__.py").is_file() else {}
        pages = {"index": self.landing(list(reference)), **reference}
        for path, name in self.names.items():
            if path.suffix == ".ipynb":
                pages[name] = self.notebook(path)
            elif name != "index":
                pages[name] = self.text(path.read_text(encoding="utf-8"), path)
        for name, page in pages.items():
            (self.folder / f"{name}.md").write_text(page, encoding="utf-8")
        return list(pages)

    def landing(self, reference: list[str]) -> str:
        """Return the first page: README, a link to the deck, and the contents for the side of every page."""
        readme = self.root / "README.md"
        parts = [self.text(readme.read_text(encoding="utf-8"), readme)]
        if self.deck.is_file():
            shutil.copyfile(self.deck, self.folder / self.deck.name)
            parts.append(
                f"The talk as slides, in one file that works offline: [open the deck](beside:{self.deck.name})."
            )
        course = [f"{path.stem[:2]} {title(path)} <{path.stem}>" for path in notebooks(self.root)]
        beside = [f"{title} <{page}>" for path, (page, title) in TEXTS.items() if (self.root / path).is_file()]
        parts += [contents("The course", course), contents("Beside the notebooks", beside)]
        if reference:
            parts.append(contents("Reference", reference))
        return "\n\n".join(parts) + "\n"

    def text(self, source: str, path: Path) -> str:
        """Return a text from `path` as the text of a page: links lead to pages, comments and badges are left out.

        Raises CourseError for a link to a missing file, and for a picture that the site would have to fetch.
        """
        source = _BADGE.sub("", source)
        parts, end = [], 0
        for block in _FENCED.finditer(source):
            parts += [self._relink(source[end : block.start()], path), block[0]]
            end = block.end()
        return "".join([*parts, self._relink(source[end:], path)])

    def _relink(self, source: str, path: Path) -> str:
        return _LINK.sub(lambda link: self._link(link, path), _COMMENT.sub("", source))

    def _link(self, link: re.Match, path: Path) -> str:
        text, target = link["text"], link["target"]
        if re.match(r"[a-z]+:", target):
            if link["picture"]:
                raise CourseError(
                    f"{path.name}: the picture {target} is not in the repository. Put it there and link to the file."
                )
            return link[0]
        name, _, anchor = target.partition("#")
        anchor = slug(unquote(anchor))
        file = (path.parent / unquote(name)).resolve() if name else path
        if file == self.deck:
            return f"[{text}](beside:{self.deck.name})" if file.is_file() else text
        if not file.exists():
            raise CourseError(f"{path.name}: the link {target} leads to no file. Correct it or remove it.")
        if link["picture"]:
            shutil.copyfile(file, self.folder / file.name)
            return f"![{text}]({file.name})"
        if file in self.names:
            return f"[{text}]({self.names[file]}.md{'#' + anchor if anchor else ''})"
        if self.repository:
            kind = "tree" if file.is_dir() else "blob"
            where = file.relative_to(self.root).as_posix()
            return f"[{text}](https://github.com/{self.repository}/{kind}/main/{where})"
        return text

    def notebook(self, path: Path) -> str:
        """Return a notebook as the text of a page: its cells, each with its saved outputs."""
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
                summary = "<summary>Set-up, for a running notebook</summary>"
                code = f'<details class="setup">\n{summary}\n\n{code}\n\n</details>'
            parts.append(code)
            outputs = enumerate(merged(cell["outputs"]))
            parts += [self.output(output, f"{path.stem}-{number:02}-{nth}") for nth, output in outputs]
        return "\n\n".join(parts) + "\n"

    def ways(self, path: Path) -> str:
        """Return the line below a notebook's title, with links to download it and to run it in Colab."""
        shutil.copyfile(path, self.folder / path.name)
        ways = [f"{{download}}`Download this notebook <{path.name}>`"]
        if self.repository:
            colab = origin.COLAB.format(repository=self.repository, name=path.name)
            ways.insert(0, f"[Open in Colab]({colab})")
        return "{.ways}\n" + " ".join(ways)

    def output(self, output: dict, name: str) -> str:
        """Return one output of a cell as Markdown.

        Raises CourseError for a kind that no page can show, and for a picture without an alternative text.
        """
        kind = output["output_type"]
        if kind == "stream":
            return printed("".join(output["text"]))
        if kind not in ("display_data", "execute_result"):
            raise CourseError(f"{name}: an output of the kind {kind}. Run the notebook again: make notebooks")
        data = {kind: "".join(value) for kind, value in output["data"].items()}
        if "image/png" in data:
            alt = output["metadata"].get("image/png", {}).get("alt")
            if not alt:
                raise CourseError(f"{name}: a picture without an alternative text. Save it with one: make notebooks")
            (self.folder / f"{name}.png").write_bytes(base64.b64decode(data["image/png"]))
            return directive("image", f"{name}.png", {"alt": " ".join(alt.split()), "class": "output"})
        if "text/html" in data:
            return directive("raw", "html", {}, f'<div class="output">{data["text/html"]}</div>')
        if set(data) != {"text/plain"}:
            raise CourseError(f"{name}: an output of the kinds {', '.join(data)}, which the site cannot show.")
        if kind == "display_data":  # a sentence instead of the controls that a running notebook shows
            return directive("raw", "html", {}, f'<p class="instead">{html.escape(data["text/plain"])}</p>')
        return printed(data["text/plain"])


def merged(outputs: list[dict]) -> list[dict]:
    """Return the outputs of a cell, with neighbouring pieces of printed text joined."""
    joined = []
    for output in outputs:
        if joined and output["output_type"] == joined[-1]["output_type"] == "stream":
            joined[-1] = {**output, "text": [*joined[-1]["text"], *output["text"]]}
        else:
            joined.append(output)
    return joined


def printed(text: str) -> str:
    """Return what a cell printed as a code block."""
    long = max(map(len, text.splitlines()), default=0) > WRAPPED
    return directive("code-block", "text", {"class": "output wrapped" if long else "output"}, text)


def contents(caption: str, entries: list[str]) -> str:
    """Return a part of the contents, which every page shows at its side."""
    return directive("toctree", "", {"hidden": True, "caption": caption, "maxdepth": 1}, "\n".join(entries))


def directive(name: str, argument: str, options: dict, body: str = "") -> str:
    """Return a MyST directive. Its fence is longer than any in the body, and option values are quoted as JSON."""
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
