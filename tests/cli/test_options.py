"""Options that would do nothing are refused in one line that names them and their owner."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import aa, failed, small_net


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return small_net(tmp_path / "net.onnx")


@pytest.mark.parametrize(
    "options", [["--filter", "3"], ["--recipe", "timm"], ["--only", "conv"], ["--first-conv"], ["--no-first-conv"]]
)
def test_plan_excludes_recipe_options(path: Path, tmp_path: Path, options: list[str]) -> None:
    plan = tmp_path / "plan.json"
    aa(path, "--dry-run", "--json", plan)
    failed(aa(path, "--plan", plan, *options), 2, "--plan and --", "exclude each other")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("--provider cpu", "--provider does nothing without --verify; add --verify, or leave --provider out"),
        ("--protocol crop", "--protocol does nothing without --verify"),
        ("--max-shift 3", "--max-shift does nothing without --verify"),
        ("--layers", "--layers does nothing without --verify"),
        ("--report page.html", "--report does nothing without --verify"),
        ("--min-consistency 0.9", "--min-consistency does nothing without --verify"),
        ("--max-diff 1", "--max-diff does nothing without --verify"),
        ("--layers --calibrate DATA", "--layers does nothing without --verify"),
        ("--labels labels.csv", "--labels does nothing without --verify or --calibrate"),
        ("--preprocess unit", "--preprocess does nothing without --verify or --calibrate"),
        ("--limit 3", "--limit does nothing without --verify or --calibrate"),
        ("--seed 0", "--seed does nothing without --verify or --calibrate"),
        ("--strength 0.5", "--strength does nothing without --calibrate; add --calibrate, or leave --strength out"),
        ("--budget 2x", "--budget does nothing without --calibrate"),
        ("--max-disagreement 0.1", "--max-disagreement does nothing without --calibrate"),
        ("--crops 1", "--crops does nothing without --calibrate"),
        ("--hold-out 0.5", "--hold-out does nothing without --calibrate"),
        ("--force", "--force does nothing without --calibrate"),
        ("--verbose", "--verbose does nothing without --calibrate"),
        ("--crops 2 --verify DATA", "--crops does nothing without --calibrate"),
        ("--dry-run --layers --hold-out 0.9 --protocol bogus", "--protocol does nothing without --verify"),
        ("--dry-run --verify DATA", "--dry-run and --verify exclude each other; leave one of them out"),
        ("--dry-run --calibrate DATA", "--dry-run and --calibrate exclude each other"),
        ("--dry-run -o out.onnx", "--dry-run and -o exclude each other"),
        ("--calibrate DATA --verbose -q", "--verbose prints nothing here; leave out -q"),
        ("--calibrate DATA --verbose --json -", "--verbose prints nothing here"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(path: Path, command: str, message: str) -> None:
    failed(aa(path, *command.split()), 2, message)
    assert [file.name for file in path.parent.iterdir()] == ["net.onnx"]


def test_a_heat_map_belongs_to_the_layers(path: Path) -> None:
    failed(aa("verify", path, "--heat-map", "conv"), 2, "--heat-map does nothing without --layers; add --layers")


def test_defaults_that_are_not_given_are_no_options(path: Path) -> None:
    assert aa(path, "-q", "--no-verify", "--json", "-").status == 0
    assert aa(path, "--dry-run", "-q").status == 0


def test_help_names_the_owner_and_verify_has_none() -> None:
    helps = [" ".join(aa(command, "--help").out.split()) for command in ("rewrite", "verify")]
    assert "With --verify: Measure every downsampling layer." in helps[0]
    assert "With --verify or --calibrate or --steady: Use only the first N samples." in helps[0]
    assert "--layers Measure every downsampling layer." in helps[1]
    assert "With --layers: Layer whose heat map" in helps[1]


@pytest.mark.parametrize("text", ["12x", "0", "axb", "-3"])
def test_sizes(path: Path, text: str) -> None:
    failed(aa("verify", path, f"--size={text}"), 2, f"--size {text}: not a size; write 224 or 240x320")
