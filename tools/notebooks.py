"""Re-runs notebooks and normalises what they save: `python -m tools.notebooks notebooks/*.ipynb`.

A normal notebook has stable cell ids, one kernelspec, no widget state, no progress bars or warnings, no path of the machine that
ran it: running it again on the same machine changes nothing but times and scores.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from llmcourse._base import files

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
LARGEST_KB = 600


def run(path: Path, timeout_s: int = 3600) -> None:
    """Execute a notebook from top to bottom, normalise it and write it back, whole or not at all.

    Raises nbclient's CellExecutionError when a cell fails; the file is then left as it was.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    NotebookClient(
        notebook, timeout=timeout_s, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    normalise(notebook)
    files.write_text(path, nbformat.writes(notebook) + "\n")


def normalise(notebook) -> None:
    """Bring a notebook object into normal form, in place."""
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    count = 0
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02}"
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags"}
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        # what libraries write to stderr is progress and warnings, never the lesson
        cell.outputs = _joined(output for output in cell.outputs if output.get("name") != "stderr")
        for output in cell.outputs:
            output.pop("transient", None)
            if "execution_count" in output:
                output.execution_count = count
            if "data" in output:
                output.data.pop("application/vnd.jupyter.widget-view+json", None)
                # of what a notebook says about its pictures, the text for those who do not see them is the lesson's
                kept = {
                    kind: {"alt": about["alt"]} for kind, about in output.metadata.items() if "alt" in (about or {})
                }
                output.metadata = kept


def _joined(outputs: Iterable) -> list:
    """Outputs with what was printed in one piece: how a kernel cuts it depends on how fast it is."""
    joined: list = []
    for output in outputs:
        if output.get("name") == "stdout" and joined and joined[-1].get("name") == "stdout":
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def problems(path: Path) -> list[str]:
    """What is not normal about a saved notebook; empty if all is well."""
    import copy

    import nbformat

    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    found = []
    if len(text.encode()) > LARGEST_KB * 1024:
        found.append(f"larger than {LARGEST_KB} KB")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if any(output.output_type == "error" for cell in code for output in cell.outputs):
        found.append("an error among the outputs")
    pictures = [o for cell in code for o in cell.outputs if "image/png" in o.get("data", {})]
    if not all(o.metadata.get("image/png", {}).get("alt") for o in pictures):
        found.append("a picture without an alternative text")
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        found.append("not run from top to bottom")
    homes = {re.escape(str(path)) for path in (Path.home(), Path.cwd().anchor + "tmp") if len(str(path)) > 3}
    if re.search("|".join([*homes, r"/home/\w", r"/Users/\w", r"/root/", r"\.cache/"]), text):
        found.append("a path of one machine")
    normal = copy.deepcopy(notebook)
    normalise(normal)
    if nbformat.writes(normal) + "\n" != text:
        found.append("not in normal form: run `make notebooks`")
    return found


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.notebooks", description="Re-run notebooks and normalise what they save."
    )
    parser.add_argument("notebook", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for path in options.notebook:
        run(path)
        print(path, *problems(path), sep=": ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
