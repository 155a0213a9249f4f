"""A unified diff of two texts whose work is linear in their lines, but for sorting. `difflib` takes hours for some.

It is the patience diff: what both texts begin and end with is equal, and so are the lines that each holds once, in the
longest sequence that has one order in both.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import Match, SequenceMatcher

CONTEXT_LINES = 3


class _PatienceMatcher(SequenceMatcher[str]):
    """_PatienceMatcher finds other equal lines than its base class, and groups them like it."""

    def __init__(self, a: Sequence[str], b: Sequence[str]) -> None:
        super().__init__(None, "", "")
        self.a, self.b = a, b

    def get_matching_blocks(self) -> list[Match]:
        """Return the blocks of equal lines, in order, with an empty one at the end."""
        blocks, i, j = [Match(0, 0, 0)], 0, 0
        for at, to in [*_anchors(self.a, self.b), (len(self.a), len(self.b))]:
            start = _common_prefix(self.a[i:at], self.b[j:to])
            back = _common_prefix(self.a[i + start : at][::-1], self.b[j + start : to][::-1])
            for block in (Match(i, j, start), Match(at - back, to - back, back)):
                last = blocks[-1]
                if (last.a + last.size, last.b + last.size) == (block.a, block.b):
                    blocks[-1] = Match(last.a, last.b, last.size + block.size)
                elif block.size:
                    blocks.append(block)
            i, j = at, to
        return [*blocks, Match(len(self.a), len(self.b), 0)]


def unified_diff(before: str, after: str, from_name: str, to_name: str) -> Iterator[str]:
    """Yield the lines of the unified diff of two texts; nothing where they are equal."""
    a, b = before.splitlines(), after.splitlines()
    for number, group in enumerate(_PatienceMatcher(a, b).get_grouped_opcodes(CONTEXT_LINES)):
        if number == 0:
            yield f"--- {from_name}"
            yield f"+++ {to_name}"
        first, last = group[0], group[-1]
        yield f"@@ -{_range(first[1], last[2])} +{_range(first[3], last[4])} @@"
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                yield from (f" {line}" for line in a[i1:i2])
                continue
            yield from (f"-{line}" for line in a[i1:i2])
            yield from (f"+{line}" for line in b[j1:j2])


def _anchors(a: Sequence[str], b: Sequence[str]) -> list[tuple[int, int]]:
    """Return the places of lines that both texts hold once: the most that have one order in both."""
    once = {line for line, count in Counter(a).items() if count == 1}
    once &= {line for line, count in Counter(b).items() if count == 1}
    places = {line: place for place, line in enumerate(a) if line in once}
    pairs = [(places[line], place) for place, line in enumerate(b) if line in once]
    ends: list[int] = []  # the least place in `a` by which an ordered sequence of each length can end
    links: list[int] = []  # the pair at each end
    previous: list[int] = []  # of each pair: the pair before it in the longest sequence that it ends
    for number, (place, _) in enumerate(pairs):
        length = bisect_left(ends, place)
        previous.append(links[length - 1] if length else -1)
        ends[length : length + 1] = [place]
        links[length : length + 1] = [number]
    sequence, number = list[tuple[int, int]](), links[-1] if links else -1
    while number >= 0:
        sequence.append(pairs[number])
        number = previous[number]
    return sequence[::-1]


def _common_prefix(a: Sequence[str], b: Sequence[str]) -> int:
    """Return how many lines both begin with."""
    return next(
        (place for place, (one, other) in enumerate(zip(a, b, strict=False)) if one != other), min(len(a), len(b))
    )


def _range(start: int, stop: int) -> str:
    """Return a range of lines as the unified format writes it."""
    size = stop - start
    first = start + 1 if size else start
    return f"{first}" if size == 1 else f"{first},{size}"
