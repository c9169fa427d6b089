"""A wrong option ends the demo with one sentence that names it and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from local_aws.demo.options import parse


def test_defaults_are_two_real_nodes_and_two_interruptions_of_120_seconds() -> None:
    options = parse([])
    assert (options.engine, options.nodes, options.interruptions, options.notice_seconds) == (
        "real",
        2,
        2,
        120,
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--engine", "gpu"], "--engine is 'real' or 'emulated', not 'gpu'."),
        (["--nodes", "1"], "--nodes is a whole number from 2 to 8, not '1'."),
        (["--nodes", "two"], "--nodes is a whole number from 2 to 8, not 'two'."),
        (["--notice-seconds", "-5"], "--notice-seconds is a whole number from 40 to 120, not '-5'."),
        (["--interruptions", "0"], "--interruptions is a whole number from 1 to 20, not '0'."),
        (["--clients", "1.5"], "--clients is a whole number from 1 to 64, not '1.5'."),
        (["--out", __file__], f"--out is a folder, and {__file__!r} is a file."),
        (["--speed", "9"], "unrecognized arguments: --speed 9."),
    ],
)
def test_bad_value_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"{sentence}\n"


def test_folder_need_not_exist_yet(tmp_path: Path) -> None:
    assert parse(["--out", str(tmp_path / "new")]).out == tmp_path / "new"
