"""The tool `file_search`: what was found stands in front of the question, and the answer says so.

No model is asked whether to search: whoever sends the tool has the latest question looked up in the stores that it
names, before the model begins. The passages have numbers, by which an answer cites them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ollama_proxy.api.responses.errors import BadRequest
from ollama_proxy.api.responses.items import read_content, read_item
from ollama_proxy.api.responses.requests import Asked
from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.library import DENSE_WEIGHT, TEXT_WEIGHT, Hit, Library, Query
from ollama_proxy.net.http_request import decode_body

KIND = "file_search"
_RESULTS = "file_search_call.results"
_MOST_STORES = 8
_MOST_QUERY_CHARS = 4000
_INTRODUCTION = (
    "These passages were found in the user's files for the latest question. Use those that help. Behind each statement "
    "that comes from one, put its number in brackets, such as [1]."
)
_CITATION = re.compile(r"\[(\d{1,2})\]")


class _Hybrid(msgspec.Struct):
    embedding_weight: Annotated[float, Meta(ge=0, le=1e6)]
    text_weight: Annotated[float, Meta(ge=0, le=1e6)]


class _Ranking(msgspec.Struct):
    ranker: str = "auto"
    score_threshold: Annotated[float, Meta(ge=0, le=1)] = 0.0
    hybrid_search: _Hybrid | None = None


class _Tool(msgspec.Struct):
    vector_store_ids: Annotated[list[str], Meta(min_length=1, max_length=_MOST_STORES)]
    max_num_results: Annotated[int, Meta(ge=1, le=50)] = 6
    filters: dict[str, Any] | None = None
    ranking_options: _Ranking | None = None


class Searched(msgspec.Struct, frozen=True):
    """What was looked up and found. `shown` says whether the answer tells the passages, too."""

    query: str
    hits: tuple[Hit, ...]
    shown: bool
    tools: tuple[Any, ...]

    def cite(self, text: str) -> list[dict[str, Any]]:
        """Annotations of an answer, by the numbers in it; every file once at its end where it names none."""
        found = [(match.end(), int(match[1])) for match in _CITATION.finditer(text)]
        cited = [(place, self.hits[number - 1]) for place, number in found if 0 < number <= len(self.hits)]
        if not cited:
            files = {hit.file: hit for hit in self.hits}
            cited = [(len(text), hit) for hit in files.values()]
        return [
            {"type": "file_citation", "index": place, "file_id": hit.file, "filename": hit.name} for place, hit in cited
        ]

    def results(self) -> list[dict[str, Any]] | None:
        """The passages, where the request wants to see them."""
        if not self.shown:
            return None
        return [
            {
                "file_id": hit.file,
                "filename": hit.name,
                "score": round(hit.score, 6),
                "text": hit.text,
                "attributes": hit.attributes,
            }
            for hit in self.hits
        ]


def wants_search(asked: Asked) -> bool:
    """Whether a request has the tool."""
    tools = asked.facts.tools
    return isinstance(tools, list) and any(isinstance(tool, dict) and tool.get("type") == KIND for tool in tools)


async def search_files(asked: Asked, library: Library | None, caller: Caller) -> tuple[Asked, Searched]:
    """The request as a model gets it, and what was found. Raises `ProxyError`."""
    if library is None:
        raise ProxyError(ErrorKind.NOT_FOUND, "file_search: vector stores are switched off here (vectors.enabled)")
    given = [tool for tool in asked.facts.tools if isinstance(tool, dict) and tool.get("type") == KIND]
    tools = [_read_tool(tool) for tool in given]
    items = asked.items()
    place, question = _find_question(items)
    hits: list[Hit] = []
    if question:
        found = await asyncio.gather(
            *(
                library.search(caller, store, _query(tool, question))
                for tool in tools
                for store in tool.vector_store_ids
            )
        )
        most = sum(tool.max_num_results for tool in tools)
        hits = sorted([hit for some in found for hit in some], key=lambda hit: -hit.score)[:most]
    shown = isinstance(asked.facts.include, list) and _RESULTS in asked.facts.include
    return _add_passages(asked, items, place, hits), Searched(question, tuple(hits), shown, tuple(given))


def _read_tool(tool: Mapping[str, Any]) -> _Tool:
    try:
        read = msgspec.convert(tool, _Tool)
    except msgspec.ValidationError as error:
        raise BadRequest(f"file_search: {error}", param="tools") from None
    weights = read.ranking_options and read.ranking_options.hybrid_search
    if weights and not weights.embedding_weight + weights.text_weight:
        raise BadRequest("file_search: hybrid_search: one of the weights is above 0", param="tools")
    return read


def _query(tool: _Tool, text: str) -> Query:
    ranking = tool.ranking_options or _Ranking()
    dense, words = DENSE_WEIGHT, TEXT_WEIGHT
    if ranking.hybrid_search is not None:
        dense, words = ranking.hybrid_search.embedding_weight, ranking.hybrid_search.text_weight
    return Query((text,), tool.max_num_results, tool.filters, ranking.score_threshold, ranking.ranker, dense, words)


def _find_question(items: Sequence[bytes]) -> tuple[int, str]:
    """The place and the text of the user's latest message; behind everything and "" where there is none."""
    for place in range(len(items) - 1, -1, -1):
        try:
            item = read_item(items[place], place)
            if item["type"] == "message" and item.get("role", "user") == "user":
                text, _ = read_content(item.get("content"), f"input[{place}]", "content")
                return place, text.strip()[-_MOST_QUERY_CHARS:]
        except ProxyError:
            # What is wrong with it is told by who reads the whole request.
            continue
    return len(items), ""


def _add_passages(asked: Asked, items: Sequence[bytes], place: int, hits: Sequence[Hit]) -> Asked:
    """The request with the passages in front of the question, and without what is ours in it."""
    members = decode_body(_members, asked.body)
    told = [f"[{number}] {hit.name}\n{hit.text}" for number, hit in enumerate(hits, 1)]
    added = []
    if told:
        text = "\n\n".join((_INTRODUCTION, *told))
        added = [msgspec.json.encode({"type": "message", "role": "developer", "content": text})]
    every = [*items[:place], *added, *items[place:]]
    members["input"] = msgspec.Raw(b"[%b]" % b",".join(every))
    tools = [tool for tool in asked.facts.tools if not (isinstance(tool, dict) and tool.get("type") == KIND)]
    members["tools"] = msgspec.Raw(msgspec.json.encode(tools))
    choice = asked.facts.tool_choice
    if not tools or (isinstance(choice, dict) and choice.get("type") == KIND):
        members.pop("tool_choice", None)
    if isinstance(asked.facts.include, list):
        members["include"] = msgspec.Raw(msgspec.json.encode([one for one in asked.facts.include if one != _RESULTS]))
    members.pop("previous_response_id", None)
    return asked.rewrite(msgspec.json.encode(members))


_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
