"""Rubrics: YAML files that define what a judge model scores, on which scale, with which examples.

Pure but for reading.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.errors import FatalError

MAX_BYTES = 256 * 1024
Need = Literal["reference", "contexts"]


class RubricError(FatalError):
    """A rubric file cannot be used; it is corrected by its author."""

    def __init__(self, path: str, place: str, problem: str) -> None:
        self.path = path
        self.place = place
        at = f", {place}" if place else ""
        super().__init__(f"rubric {path}{at}: {problem}; see docs/how-to/evals.md for the form of a rubric")


class Scale(BaseModel):
    """Whole numbers that the judge may give."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    min: Annotated[int, Field(strict=True)] = 1
    """The worst answer, or the best where ``lower_is_better``."""
    max: Annotated[int, Field(strict=True)] = 5
    """The other end; at most 100 above ``min``."""


class Example(BaseModel):
    """One answer that the author of the rubric scored."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    question: str
    answer: str
    score: Annotated[int, Field(strict=True)]
    reason: str = ""
    reference: str | None = None
    contexts: tuple[str, ...] = ()


class Rubric(BaseModel):
    """What one judge scores."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")
    """The scorer is named ``judge.NAME``."""
    instructions: str = Field(min_length=10, max_length=20_000)
    """What is judged, in words for the model."""
    scale: Scale = Scale()
    anchors: dict[int, str] = {}
    """Point of the scale -> what an answer of this score is like."""
    pass_at: int | None = None
    """Score from which on (up to which, where ``lower_is_better``) an answer passes. Default: the middle of the
    scale rounded towards the better end."""
    lower_is_better: bool = False
    case_rubric: bool | None = None
    """Whether a golden case's own rubric is added to the instructions. Default: for ``task_success`` only."""
    needs: tuple[Need, ...] = ()
    """A case without one of these is not judged."""
    examples: tuple[Example, ...] = ()

    @model_validator(mode="after")
    def _on_scale(self) -> Rubric:
        low, high = self.scale.min, self.scale.max
        if not 1 <= high - low <= 100:
            raise ValueError(f"scale: max must be 1 to 100 above min, and is {high - low} above it")
        points = {f"anchors.{point}": point for point in self.anchors}
        points |= {f"examples[{i}].score": example.score for i, example in enumerate(self.examples)}
        points |= {"pass_at": self.pass_at} if self.pass_at is not None else {}
        if outside := [f"{place} is {point}" for place, point in points.items() if not low <= point <= high]:
            raise ValueError(f"outside of the scale {low} to {high}: {', '.join(outside)}")
        return self

    @property
    def takes_case_rubric(self) -> bool:
        """Whether a case's own rubric is added to the instructions."""
        return self.name == "task_success" if self.case_rubric is None else self.case_rubric

    @property
    def threshold(self) -> int:
        """The score from which on an answer passes."""
        if self.pass_at is not None:
            return self.pass_at
        total = self.scale.min + self.scale.max
        return total // 2 if self.lower_is_better else -(-total // 2)

    def passes(self, score: float) -> bool:
        """Whether ``score``, on the rubric's scale, is good enough."""
        return score <= self.threshold if self.lower_is_better else score >= self.threshold

    def normalised(self, score: float) -> float:
        """Return ``score`` in [0, 1]; 1 is the best."""
        share = (score - self.scale.min) / (self.scale.max - self.scale.min)
        return 1.0 - share if self.lower_is_better else share

    @property
    def digest(self) -> str:
        """Hash of all that the judge is asked; the layout of the file does not change it."""
        # left out where it is empty, so that the digests of older rubrics stay the same
        left_out = {"case_rubric"} if self.case_rubric is None else set()
        text = json.dumps(self.model_dump(mode="json", exclude=left_out), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Place:
    """Turns an error of pydantic into a place in the file and a plain sentence."""

    location: tuple[int | str, ...]

    def __str__(self) -> str:
        text = ""
        for part in self.location:
            text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{part}"
        return text


def parse(text: str, path: str) -> Rubric:
    """Return the rubric that ``text`` holds.

    Args:
        text: YAML; one mapping.
        path: for errors.

    Raises:
        RubricError: names the file, the line or key, and what is wrong.
    """
    try:
        content: Any = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise RubricError(path, line, f"not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # an invalid date raises a plain ValueError
        raise RubricError(path, "", f"not YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(content, Mapping):
        raise RubricError(path, "", "must be one mapping with the keys name and instructions")
    try:
        return Rubric.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        raise RubricError(path, str(_Place(first["loc"])), first["msg"].removeprefix("Value error, ")) from None


def load(path: Path) -> Rubric:
    """Return the rubric of a file.

    Raises:
        RubricError: it cannot be read, or is no rubric.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise RubricError(str(path), "", f"larger than {MAX_BYTES // 1024} KiB")
        return parse(data.decode("utf-8"), str(path))
    except UnicodeDecodeError:
        raise RubricError(str(path), "", "not UTF-8") from None
    except OSError as error:
        raise RubricError(str(path), "", error.strerror or "cannot be read") from None
