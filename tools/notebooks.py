"""Re-run notebooks and normalise what they save: `python -m tools.notebooks notebooks/*.ipynb`.

A normalised notebook has stable cell ids, one kernelspec, no widget state, no progress bars or warnings, and no path of
the machine that ran it. Running it again on the same machine changes nothing but times and scores.

Why not nbstripout: of all this it drops only stderr and renames the ids, two lines here, and we keep the rest of the
outputs.
"""

import argparse
import copy
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmcourse._base import files

if TYPE_CHECKING:
    from nbformat import NotebookNode

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
LARGEST_KB = 650


def run(path: Path, timeout_s: int = 3600) -> None:
    """Execute a notebook from top to bottom, normalise it, and replace the file.

    Raises nbclient's CellExecutionError when a cell fails. The file is then left as it was.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=timeout_s, kernel_name="python3", resources=resources).execute()
    normalise(notebook)
    files.write_text(path, nbformat.writes(notebook) + "\n")


def normalise(notebook: "NotebookNode") -> None:
    """Normalise a notebook object in place."""
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
        # Libraries write progress bars and warnings to stderr. Neither belongs to the lesson.
        cell.outputs = _join_stdout(output for output in cell.outputs if not _is_noise(output))
        for output in cell.outputs:
            _normalise_output(output, count)


def _is_noise(output: "NotebookNode") -> bool:
    """Return whether an output was written to stderr, or is a progress bar drawn as a widget."""
    bar = re.search(r"\d+%\|", output.get("data", {}).get("text/plain", ""))
    return output.get("name") == "stderr" or bar is not None


def _normalise_output(output: "NotebookNode", count: int) -> None:
    """Number an output like its cell, and keep of its metadata only the pictures' alternative texts."""
    output.pop("transient", None)
    if "execution_count" in output:
        output.execution_count = count
    if "data" in output:
        output.data.pop("application/vnd.jupyter.widget-view+json", None)
        metadata = output.metadata.items()
        output.metadata = {kind: {"alt": values["alt"]} for kind, values in metadata if "alt" in (values or {})}


def _join_stdout(outputs: Iterable["NotebookNode"]) -> list["NotebookNode"]:
    """Join neighbouring pieces of printed text, because where a kernel splits them depends on its speed."""
    joined: list[NotebookNode] = []
    for output in outputs:
        if output.get("name") == "stdout" and joined and joined[-1].get("name") == "stdout":
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def problems(path: Path) -> list[str]:
    """Return what is wrong with a saved notebook: an empty list if nothing is."""
    import nbformat

    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output for cell in code for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    homes = {re.escape(str(folder)) for folder in (Path.home(), Path("/tmp")) if len(str(folder)) > 3}
    local_path = "|".join([*homes, r"/home/\w", r"/Users/\w", r"/root/", r"\.cache/"])
    normal = copy.deepcopy(notebook)
    normalise(normal)
    checks = {
        f"larger than {LARGEST_KB} KB": len(text.encode()) > LARGEST_KB * 1024,
        "an error among the outputs": any(output.output_type == "error" for output in outputs),
        "a picture without an alternative text": not all(
            picture.metadata.get("image/png", {}).get("alt") for picture in pictures
        ),
        "not run from top to bottom": [cell.execution_count for cell in code] != list(range(1, len(code) + 1)),
        "a path of one machine": re.search(local_path, text) is not None,
        "not normalised: run `make notebooks`": nbformat.writes(normal) + "\n" != text,
    }
    return [problem for problem, is_there in checks.items() if is_there]


def main(arguments: Sequence[str] | None = None) -> int:
    """Re-run the notebooks named on the command line, and print what is wrong with each of them."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.notebooks", description="Re-run notebooks and normalise what they save."
    )
    parser.add_argument("notebook", nargs="+", type=Path)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for path in parser.parse_args(arguments).notebook:
        run(path)
        print(path, *problems(path), sep=": ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
