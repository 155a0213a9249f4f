"""Benchmark the search for tools among a thousand Skills: what it finds, how long it takes, what an agent reads first.

    make bench-search      # SEARCHES=400

The Skills are HumanEval's 164 problems and 836 tasks of an office. Queries use other words than the Skills, or other
forms of them; nobody but this benchmark knows them. It needs no cluster.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import statistics
import time
from collections.abc import Sequence

from benchmarks.humaneval import Json, read_rows
from benchmarks.search_queries import QUERIES
from benchmarks.search_tasks import SearchTask, office_tasks
from skill_operator.api.listed_tool import listed_tool
from skill_operator.api.v1alpha1 import Skill
from skill_operator.gateway import find_tools
from skill_operator.gateway.access.authorizer import Caller
from skill_operator.gateway.mcp import INSTRUCTIONS
from skill_operator.gateway.pods.directory import Directory, SkillEntry
from skill_operator.gateway.skill_search import DEFAULT_RESULTS, SkillSearch, words
from skill_operator.gateway.tool_catalog import ANY_OUTPUT_REVISION, encode_any_tool
from skill_operator.naming import SkillKey

SEARCHES = int(os.environ.get("SEARCHES", "400"))
BYTES_PER_TOKEN = 3  # no tokenizer has fewer of JSON, so this gives too many tokens
CALLER = Caller("bench")


def key_of(skill: Skill) -> SkillKey:
    return SkillKey(skill.metadata.namespace, skill.metadata.name)


def directory_of(skills: Sequence[Skill]) -> Directory:
    directory = Directory()
    directory.entries |= {key_of(skill): SkillEntry(skill.metadata, skill) for skill in skills}
    return directory


def office_directory() -> tuple[Directory, list[SearchTask]]:
    """Return the tasks of an office, and a directory that has them."""
    tasks = list(office_tasks())
    return directory_of([task.skill for task in tasks]), tasks


def humaneval_skill(number: int, row: Json) -> Skill:
    """Return a problem as a Skill that is described by its docstring, without the examples in it."""
    prompt = row["prompt"].partition(f"def {row['entry_point']}")[2]
    names = re.findall(r"(\w+) *[:,)=]", prompt.partition("->")[0].partition('"""')[0])
    quoted = re.split("\"\"\"|'''", prompt)
    text = " ".join((quoted[1] if len(quoted) > 1 else "A task").partition(">>>")[0].split())
    spec = {
        "description": text or "A task",
        "input": {"type": "object", "properties": {name: {} for name in names}},
        "output": {"type": "object", "properties": {"result": {}}},
        "examples": [{"name": "e0", "input": {}, "output": {}}],
    }
    name = f"{row['entry_point'].lower().replace('_', '-')}-{number}"
    return Skill.model_validate({"metadata": {"name": name, "namespace": "bench", "uid": name}, "spec": spec})


async def found_within(directory: Directory, tasks: Sequence[SearchTask], most: int) -> float:
    """Return the share of the tasks that are among so many first results of their queries (recall)."""
    search = SkillSearch(directory)
    hits = [key_of(task.skill) in await search.find(CALLER, directory.entries, task.query, most) for task in tasks]
    return sum(hits) / len(hits)


def same_words(tasks: Sequence[SearchTask]) -> float:
    """Return the share of the queries' words that are in their Skill's text exactly as they are."""
    shares = []
    for task in tasks:
        skill = task.skill
        text = set(words(f"{skill.metadata.name} {json.dumps(skill.spec.model_dump(mode='json'))}"))
        asked = list(words(task.query))
        shares.append(sum(word in text for word in asked) / len(asked))
    return statistics.mean(shares)


def tokens(texts: Sequence[bytes]) -> int:
    """Return the most tokens that these texts may be."""
    return sum(map(len, texts)) // BYTES_PER_TOKEN


def first_turn() -> int:
    """Return the tokens that an agent reads before its first search: instructions, and the two tools."""
    return tokens([INSTRUCTIONS.encode(), *(encode_any_tool(tool, ANY_OUTPUT_REVISION) for tool in find_tools.TOOLS)])


def whole_list(skills: Sequence[Skill]) -> int:
    """Return the tokens of a list of all tools, by their names, descriptions and input schemas alone."""
    listed = [listed_tool(*key_of(skill), skill.spec) for skill in skills]
    return tokens([json.dumps([tool.name, tool.description, tool.input.schema]).encode() for tool in listed])


async def milliseconds(directory: Directory, queries: Sequence[str]) -> list[float]:
    """Return how long each search computed, once the Skills' words are known."""
    search, took = SkillSearch(directory), []
    await search.find(CALLER, directory.entries, "warm", DEFAULT_RESULTS)
    for query in queries:
        began = time.process_time()
        await search.find(CALLER, directory.entries, query, DEFAULT_RESULTS)
        took.append(1000 * (time.process_time() - began))
    return took


async def main() -> None:
    office = list(office_tasks())
    problems = [
        SearchTask(humaneval_skill(number, row), QUERIES.get(number, "")) for number, row in enumerate(read_rows())
    ]
    asked = [task for task in problems if task.query]
    skills = [task.skill for task in (*problems, *office)]
    directory = directory_of(skills)
    began = time.process_time()
    await SkillSearch(directory).find(CALLER, directory.entries, "first", DEFAULT_RESULTS)
    first = time.process_time() - began
    took = await milliseconds(directory, [task.query for task in office][::2][:SEARCHES])
    both = [*asked, *office]
    print(f"Skills                                          {len(skills)}")
    print(f"share of the queries' words that the Skill has  {same_words(both):.2f}")
    for name, tasks in (("HumanEval", asked), ("office", office)):
        one, five = await found_within(directory, tasks, 1), await found_within(directory, tasks, 5)
        print(f"{name:10} {len(tasks):4} queries: first {one:.3f}, among five {five:.3f}   (goal: 0.9 among five)")
    print(f"tokens before the first search, at most         {first_turn()}   (goal: 3000)")
    print(f"tokens of a list of all tools, at most          {whole_list(skills)}")
    print(f"seconds computed to read all Skills once        {first:.2f}")
    p95 = statistics.quantiles(took, n=20)[-1]
    print(f"milliseconds computed a search, p50 and p95     {statistics.median(took):.1f}  {p95:.1f}   (goal: p50 20)")


if __name__ == "__main__":
    asyncio.run(main())
