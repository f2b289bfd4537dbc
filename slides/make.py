"""Fill deck.md with measurements and build the slides: build/deck.md, build/finetune-llms.html and .pdf.

    python slides/make.py           # all of it; needs npm ci in slides/, and Chromium for the PDF
    python slides/make.py --fill    # only the filled Markdown

The HTML is one file that loads nothing: figures and fonts are embedded, and Marp draws the formulas when it is built.
"""

import argparse
import base64
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import content  # noqa: E402
import jinja2  # noqa: E402

from llmcourse import CourseError  # noqa: E402
from llmcourse._base import files  # noqa: E402

DECK, THEME, BUILD = HERE / "deck.md", HERE / "theme.css", HERE / "build"
NAME = "finetune-llms"
MARP = HERE / "node_modules" / ".bin" / "marp"
FONTS = {  # family: package, weights
    "Source Sans 3": ("source-sans-3", (400, 600, 700)),
    "Source Code Pro": ("source-code-pro", (400, 600)),
}
SUBSETS = ("latin", "greek", "cyrillic")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def filled() -> str:
    """Return the deck's Markdown with its placeholders filled. Raises CourseError for a placeholder without a value."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True)
    environment.filters |= content.filters()
    try:
        return environment.from_string(DECK.read_text(encoding="utf-8")).render(content.context())
    except jinja2.TemplateError as error:
        raise CourseError(f"{DECK.name}: {error}") from error


def styled() -> str:
    """Return the theme with its fonts embedded, so that a slide has the same size on every machine."""
    faces = []
    for family, (package, weights) in FONTS.items():
        folder = HERE / "node_modules" / "@fontsource" / package
        for weight in weights:
            for subset in SUBSETS:
                path = folder / "files" / f"{package}-{subset}-{weight}-normal.woff2"
                if not path.is_file():
                    raise CourseError(f"{path} is missing. In {HERE.name}/, run: npm ci")
                css = (folder / f"{subset}-{weight}.css").read_text(encoding="utf-8")
                span = re.search(r"unicode-range:\s*([^;}]+)", css)
                data = base64.b64encode(path.read_bytes()).decode()
                source = f"url(data:font/woff2;base64,{data}) format('woff2')"
                unicode_range = f";unicode-range:{span[1].strip()}" if span else ""
                font = f"font-family:'{family}';font-weight:{weight};src:{source}{unicode_range}"
                faces.append(f"@font-face{{{font}}}")
    return THEME.read_text(encoding="utf-8") + "\n".join(faces) + "\n"


def browser() -> str | None:
    """Return a Chromium for the PDF: CHROME_PATH, or one from the search path; None if there is none."""
    return os.environ.get("CHROME_PATH") or next(filter(None, map(shutil.which, BROWSERS)), None)


def marp(target: Path, *options: str) -> None:
    """Run Marp on the filled deck. Raises CourseError with Marp's message if it fails."""
    aside = target.with_name(f".{target.name}")
    command = [MARP, "--no-config-file", "--html", "--theme-set", BUILD / "theme.css", *options]
    done = subprocess.run(
        [*map(str, command), "--output", str(aside), str(BUILD / "deck.md")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=os.environ | {"CHROME_PATH": browser() or ""},
    )
    if done.returncode or not aside.is_file():
        raise CourseError(f"Marp did not write {target.name}:\n{done.stderr.strip()[-2000:]}")
    os.replace(aside, target)


def build(pdf: bool = True) -> list[Path]:
    """Build the slides and return their files. Raises CourseError if a tool is missing or fails."""
    BUILD.mkdir(exist_ok=True)
    files.write_text(BUILD / "deck.md", filled())
    if not MARP.exists():
        raise CourseError(f"Marp is not installed. In {HERE.name}/, with Node 18 or newer, run: npm ci")
    files.write_text(BUILD / "theme.css", styled())
    made = [BUILD / f"{NAME}.html"]
    marp(made[0])
    if pdf:
        if browser() is None:
            raise CourseError(
                "The HTML is ready, but the PDF needs Chromium. Install it, or set CHROME_PATH to its path."
            )
        made.append(BUILD / f"{NAME}.pdf")
        marp(made[1], "--pdf", "--pdf-notes", "--pdf-outlines", "--browser-timeout", "120")
    return made


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fill", action="store_true", help="only the filled Markdown")
    parser.add_argument("--no-pdf", action="store_true", help="no PDF, which needs Chromium")
    options = parser.parse_args(arguments)
    try:
        if options.fill:
            BUILD.mkdir(exist_ok=True)
            files.write_text(BUILD / "deck.md", filled())
            print(BUILD / "deck.md")
        else:
            for path in build(pdf=not options.no_pdf):
                print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    except CourseError as error:
        print(f"slides: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
