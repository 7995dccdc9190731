"""What was removed as a leak, and what it shares with which evaluation problem."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stages.prompts.decontaminate import Match
    from stages.prompts.sources import Problem

MAX_EXAMPLES = 20  # shown with their questions in report.json
MAX_CHARACTERS = 500  # of a question, or of what is shared: a word can be a long formula


class Matches:
    """One source's leaks: all are counted, and as many are kept as `max_rows` says."""

    def __init__(self, task: str, max_rows: int) -> None:
        """Has seen none yet."""
        self._task = task
        self._max_rows = max_rows
        self._counts: Counter[str] = Counter()
        self.rows: list[dict[str, str]] = []
        self.examples: list[dict[str, str]] = []

    def add(self, identifier: str, problem: Problem, match: Match) -> None:
        """Counts a leak, by the evaluation set that it is of."""
        self._counts[match.evaluation_id.rpartition("-")[0]] += 1
        row = {
            "id": identifier,
            "reason": match.reason,
            "evaluation_id": match.evaluation_id,
            "shared": match.shared[:MAX_CHARACTERS],
        }
        if len(self.rows) < self._max_rows:
            self.rows.append({"task": self._task, **row})
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append({**row, "question": problem.question[:MAX_CHARACTERS]})

    def report(self) -> dict[str, Any]:
        """Returns the counts by evaluation set, and some leaks with their questions."""
        return {
            "removed_by_evaluation_set": dict(sorted(self._counts.items())),
            "removed_examples": self.examples,
        }
