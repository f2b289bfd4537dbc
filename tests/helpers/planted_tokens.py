"""Made-up access tokens, put wherever the course could find one, to look for them in what it writes."""

import base64
import traceback
from pathlib import Path

import pytest

TOKEN = "hf_" + "PlantedInTheEnvironment0123456789X"
IN_FILE = "hf_" + "PlantedInTheFileOfTheHub0123456789"
KAGGLE = "feedc0de" * 4
BASIC = base64.b64encode(f"someone:{KAGGLE}".encode()).decode()
SECRETS = (TOKEN, IN_FILE, KAGGLE, BASIC)
assert len(TOKEN) == len(IN_FILE) == 37


def plant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """Make a home with a token in every place where one can be, and return the environment variables that were set."""
    home = tmp_path / "home"
    (home / "hf").mkdir(parents=True)
    (home / "hf" / "token").write_text(IN_FILE + "\n")
    places = {
        "HOME": home,
        "HF_HOME": home / "hf",
        "LLMCOURSE_CACHE": tmp_path / "course",
        "KAGGLEHUB_CACHE": tmp_path / "kaggle",
        "XDG_CACHE_HOME": home / ".cache",
    }
    values = {name: str(value) for name, value in places.items()}
    values |= {"HF_TOKEN": TOKEN, "KAGGLE_USERNAME": "someone", "KAGGLE_KEY": KAGGLE}
    for name in ("HF_TOKEN_PATH", "KAGGLE_API_TOKEN", "KAGGLE_CONFIG_DIR", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + repr(error.__cause__)


def none_in(text: str) -> None:
    for secret in SECRETS:
        assert secret not in text, text
