"""Fills deck.md with what was measured and makes the slides: build/deck.md, build/finetune-llms.html and .pdf.

    python slides/make.py           # all of it; needs npm ci in slides/, and Chromium for the PDF
    python slides/make.py --fill    # only the filled Markdown

The HTML is one file that loads nothing: figures are drawn in place, formulas are drawn by Marp when it is built, fonts lie in the style.
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
    """The deck's Markdown with every placeholder filled. Raises CourseError for a placeholder that stands for nothing."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True)
    environment.filters |= content.filters()
    try:
        return environment.from_string(DECK.read_text(encoding="utf-8")).render(content.context())
    except jinja2.TemplateError as error:
        raise CourseError(f"{DECK.name}: {error}") from error


def styled() -> str:
    """The theme with its fonts inside, so that a slide measures the same on every machine."""
    faces = []
    for family, (package, weights) in FONTS.items():
        folder = HERE / "node_modules" / "@fontsource" / package
        for weight in weights:
            for subset in SUBSETS:
                path = folder / "files" / f"{package}-{subset}-{weight}-normal.woff2"
                if not path.is_file():
                    raise CourseError(f"{path} is missing. In {HERE.name}/: npm ci")
                css = (folder / f"{subset}-{weight}.css").read_text(encoding="utf-8")
                span = re.search(r"unicode-range:\s*([^;}]+)", css)
                data = base64.b64encode(path.read_bytes()).decode()
                faces.append(
                    f"@font-face{{font-family:'{family}';font-weight:{weight};src:url(data:font/woff2;base64,{data}) format('woff2')"
                    + (f";unicode-range:{span[1].strip()}" if span else "")
                    + "}"
                )
    return THEME.read_text(encoding="utf-8") + "\n".join(faces) + "\n"


def browser() -> str | None:
    """A Chromium for the PDF: CHROME_PATH, or what lies in the search path."""
    return os.environ.get("CHROME_PATH") or next(filter(None, map(shutil.which, BROWSERS)), None)


def marp(target: Path, *options: str) -> None:
    """Run Marp on the filled deck. Raises CourseError with what it said if it fails."""
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
        raise CourseError(f"Marp made no {target.name}. It said:\n{done.stderr.strip()[-2000:]}")
    os.replace(aside, target)


def build(pdf: bool = True) -> list[Path]:
    """Make the slides; returns the files."""
    BUILD.mkdir(exist_ok=True)
    files.write_text(BUILD / "deck.md", filled())
    if not MARP.exists():
        raise CourseError(f"Marp is not there. In {HERE.name}/: npm ci   (Node 18 or newer)")
    files.write_text(BUILD / "theme.css", styled())
    made = [BUILD / f"{NAME}.html"]
    marp(made[0])
    if pdf:
        if browser() is None:
            raise CourseError("The HTML is there; the PDF needs Chromium or Chrome, or CHROME_PATH=where it is.")
        made.append(BUILD / f"{NAME}.pdf")
        marp(made[1], "--pdf", "--pdf-notes", "--pdf-outlines", "--browser-timeout", "120")
    return made


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fill", action="store_true", help="only the filled Markdown")
    parser.add_argument("--no-pdf", action="store_true", help="no PDF, for which Chromium is needed")
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
