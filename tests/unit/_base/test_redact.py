"""Tokens are taken out of errors and tracebacks, and nothing else is."""

import pytest
from planted_tokens import BASIC, KAGGLE, SECRETS, TOKEN, none_in, plant, shown

from llmcourse import CourseError
from llmcourse._base import redact


@pytest.fixture
def planted(monkeypatch, tmp_path) -> dict[str, str]:
    return plant(monkeypatch, tmp_path)


@pytest.mark.parametrize("secret", SECRETS)
def test_a_token_is_taken_out_of_every_part_of_an_error(planted, secret):
    def fail():
        try:
            try:
                raise KeyError(f"Authorization: Basic {secret}" if secret == BASIC else secret)
            except KeyError:
                error = OSError(5, f"sent Basic {secret}", f"/x?token={secret}" if secret != BASIC else None)
                error.server_message = f"Basic {secret}"
                error.add_note(f"Basic {secret}")
                raise error  # noqa: B904  what was being handled is shown as well
        except OSError as error:
            redact.clean(error)
            raise CourseError(f"It failed: {error.server_message}. Try again.") from error

    with pytest.raises(CourseError, match=r"^It failed: .*hidden.*\. Try again\.$") as caught:
        fail()
    text = shown(caught.value)
    none_in(text + repr(vars(caught.value.__cause__)))
    assert text.count(redact.HIDDEN) >= 4


def test_what_is_no_token_stays(planted):
    text = "hf_hub_download of a basic understanding, Basic instructions; hf_token, HF_TOKEN; 0123456789abcdef" * 2
    assert redact.redacted(text) == text
    assert redact.redacted("hf_" + "b" * 34) == redact.HIDDEN  # somebody else's
    for kind in ("oauth", "oauth_", "jwt"):  # of a login by device, and of CI
        assert redact.redacted(f"hf_{kind}_" + "eyJh.bGci-Oi_JI.x" * 2) == redact.HIDDEN


def test_tokens_in_files_are_known_whatever_they_look_like(planted, tmp_path):
    (tmp_path / "home" / "hf" / "token").write_text("a-token-of-another-kind\n")
    assert redact.redacted("sent a-token-of-another-kind.") == f"sent {redact.HIDDEN}."
    (tmp_path / "home" / ".kaggle").mkdir()
    (tmp_path / "home" / ".kaggle" / "kaggle.json").write_text('{"username": "someone", "key": "c0ffee0123456789"}')
    (tmp_path / "home" / ".kaggle" / "access_token").write_text("KGAT_short-one\n")
    assert redact.redacted("c0ffee0123456789, KGAT_short-one") == f"{redact.HIDDEN}, {redact.HIDDEN}"


def test_a_traceback_that_nobody_foresaw_shows_none(planted, capsys):
    try:
        raise RuntimeError(f"sent {TOKEN}") from ValueError(KAGGLE)
    except RuntimeError as error:
        redact.excepthook(type(error), error, error.__traceback__)
    said = capsys.readouterr().err
    assert "RuntimeError: sent" in said and "ValueError" in said
    none_in(said)
