"""Results files that notebooks read, so that they travel with the package: each is written by a script in benchmarks/.

adaptation.json     benchmarks/adaptation.py    what retrieval, continued pretraining and finetuning give on a handbook, and forget
injections.json     benchmarks/injections.py    how often an answer gives way to an order in the comment, and to a harmless text
lora.json           benchmarks/ranks.py          what rank a finetuning needs: ranks, alphas, NF4, singular values
prompting.json      benchmarks/prompting.py     accuracy against the number of shots, and against their order
"""

import json
from importlib import resources
from pathlib import Path
from typing import Any


def path(name: str) -> Path:
    """Where a results file lies; for the script that writes it."""
    return Path(str(resources.files(__name__) / f"{name}.json"))


def read(name: str) -> dict[str, Any]:
    """A results file, for the notebook that shows it."""
    return json.loads(path(name).read_text(encoding="utf-8"))
