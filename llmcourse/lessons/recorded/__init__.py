"""Results files that notebooks show. They travel with the package, and a script in benchmarks/ writes each.

adaptation.json     benchmarks/adaptation.py    retrieval, continued pretraining and finetuning on a handbook
evidence.json       benchmarks/evidence.py      cross-validation and learning curves of all methods
injections.json     benchmarks/injections.py    how often an injected order, or a harmless text, changes an answer
lora.json           benchmarks/ranks.py         what rank a finetuning needs: ranks, alphas, NF4, singular values
prompting.json      benchmarks/prompting.py     accuracy of prompts that differ from a reference in one thing
"""

import json
from importlib import resources
from pathlib import Path
from typing import Any


def path(name: str) -> Path:
    """Return the path of a results file, for the script that writes it."""
    return Path(str(resources.files(__name__) / f"{name}.json"))


def read(name: str) -> dict[str, Any]:
    """Return the contents of a results file, for the notebook that shows them."""
    return json.loads(path(name).read_text(encoding="utf-8"))
