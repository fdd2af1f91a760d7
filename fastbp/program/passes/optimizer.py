"""Optimizer steps tensor by tensor, so that each can follow the gradient that it needs."""

from __future__ import annotations

from collections.abc import Sequence

from fastbp.program.calls import Call


def split_steps(calls: Sequence[Call]) -> list[Call]:
    """Calls with every element-wise call of lists of n tensors as n calls of one tensor each."""
    result = []
    for call in calls:
        facts = call.facts
        of_lists = facts.partition == "elements" and facts.lists.issuperset(facts.writes(**call.named()))
        lists = [name for name in facts.lists if call[name]] if of_lists else []
        count = len(call[lists[0]]) if lists else 0
        if count < 2:
            result.append(call)
        else:
            result += [call.replace(**{name: [call[name][i]] for name in lists}) for i in range(count)]
    return result
