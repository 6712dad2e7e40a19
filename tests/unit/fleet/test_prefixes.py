"""What slots hold of a prompt: as much as a server that keeps the last prompt of each slot would."""

from __future__ import annotations

import gc
import json
from typing import Any

import pytest
from msgspec.structs import replace

from ollama_proxy.domain.call import Call, Dialect, Generation, Operation, RawHead, RawRequest
from ollama_proxy.domain.device import BackendSpec
from ollama_proxy.fleet.prefixes import BLOCK_BYTES, LEAST_BYTES, MOST_LINKS, PrefixBook, Prompt

ONE = BackendSpec("one", "ollama", "one", "npu", slots=1)
FOUR = BackendSpec("four", "ollama", "four", "nvidia", slots=4)
MODEL = "m:1b"
HEAD = RawHead(b"POST", b"/api/chat")


def chat(*turns: str, model: str = MODEL, **changes: Any) -> Call:
    messages = [{"role": "user", "content": turn} for turn in turns]
    body = json.dumps({"model": model, "messages": messages, "stream": False}).encode()
    call = Call("r", Dialect.OLLAMA, Operation.CHAT, model, False, 0.0, Generation, raw=RawRequest(HEAD, body))
    call.way_in = "/api/chat"
    for name, value in changes.items():
        setattr(call, name, value)
    return call


def read(book: PrefixBook, call: Call) -> Prompt:
    prompt = book.read(call, call.model)
    assert prompt is not None
    return prompt


def serve(book: PrefixBook, spec: BackendSpec, call: Call, *, loads: bool = False, ends: bool = True) -> None:
    kept = book.begin(spec, call.model, book.read(call, call.model), loads=loads)
    if kept is not None and ends:
        kept.busy = False


def held(book: PrefixBook, call: Call) -> dict[str, int]:
    """Whole bytes of it that backends hold: as if each byte were a token."""
    prompt = read(book, call)
    return {name: round(tokens) for name, tokens in book.find(prompt, prompt.size_bytes).items()}


TURN = "What the first turn said. " * 150


def test_the_next_turn_of_a_conversation_is_held_where_the_last_one_was() -> None:
    book = PrefixBook()
    serve(book, ONE, chat(TURN))
    # The end of a body is other bytes in the next turn; so whole blocks of the text before it are the same.
    same = len(json.dumps(TURN)) // BLOCK_BYTES * BLOCK_BYTES
    assert held(book, chat(TURN, "And the second.")) == {"one": same}
    assert held(book, chat("Something else. " + TURN)) == {}
    # Not in another dialect, nor for another model, though the bytes were the same.
    assert held(book, chat(TURN, "And the second.", way_in="/v1/chat/completions")) == {}
    assert book.find(read(book, chat(TURN, model="other")), 1000.0) == {}


def test_a_whole_prompt_is_never_held() -> None:
    book = PrefixBook()
    serve(book, ONE, chat(TURN))
    assert 0 < held(book, chat(TURN))["one"] < len(chat(TURN).raw.body)  # type: ignore[union-attr]


def test_one_slot_holds_the_last_prompt_only_however_short_it_was() -> None:
    for other in (chat("Another long one. " * 200), chat("Short.")):
        book = PrefixBook()
        serve(book, ONE, chat(TURN))
        serve(book, ONE, other)
        assert held(book, chat(TURN, "More.")) == {}


def test_several_slots_hold_several_and_the_oldest_goes_first() -> None:
    book = PrefixBook()
    talks = [f"Talk {number}. " * 300 for number in range(5)]
    for talk in talks[:4]:
        serve(book, FOUR, chat(talk))
    # The next turn of a talk goes to its own slot, and displaces nobody.
    serve(book, FOUR, chat(talks[0], "More."))
    assert all(held(book, chat(talk, "More.")) for talk in talks[:4])
    serve(book, FOUR, chat(talks[4]))
    assert [bool(held(book, chat(talk, "More."))) for talk in talks] == [True, False, True, True, True]


def test_a_slot_at_work_is_not_free_to_be_used_again() -> None:
    book = PrefixBook()
    serve(book, FOUR, chat(TURN), ends=False)
    assert held(book, chat(TURN, "More.")) == {}


def test_a_model_that_was_loaded_anew_holds_nothing_of_before() -> None:
    book = PrefixBook()
    serve(book, FOUR, chat(TURN))
    serve(book, FOUR, chat("Short."), loads=True)
    assert held(book, chat(TURN, "More.")) == {}


def test_who_keeps_nothing_is_not_believed_for_long() -> None:
    book = PrefixBook()
    serve(book, ONE, chat(TURN))
    follow_up = chat(TURN, "More.")
    first = held(book, follow_up)["one"]
    for _ in range(3):
        book.learn("one", held(book, follow_up)["one"], 0.0)
    assert held(book, follow_up)["one"] == pytest.approx(first * 0.7**3, abs=2)
    for _ in range(20):
        for tokens in held(book, follow_up).values():
            book.learn("one", tokens, 0.0)
    assert held(book, follow_up) == {}


def test_who_keeps_all_after_all_is_believed_again() -> None:
    book = PrefixBook()
    serve(book, ONE, chat(TURN))
    follow_up = chat(TURN, "More.")
    first = held(book, follow_up)["one"]
    for _ in range(4):
        book.learn("one", held(book, follow_up)["one"], 0.0)
    for _ in range(30):
        book.learn("one", held(book, follow_up)["one"], first)
    assert held(book, follow_up)["one"] == pytest.approx(first, rel=0.01)


def test_only_what_is_worth_it_is_looked_at() -> None:
    book = PrefixBook()
    assert book.read(chat("Short."), MODEL) is None
    assert book.read(chat(TURN, operation=Operation.EMBED), MODEL) is None
    assert book.read(chat(TURN, raw=None), MODEL) is None
    assert book.read(chat("x" * LEAST_BYTES), MODEL) is not None
    prompt = read(book, chat("x" * 10**6))
    assert len(prompt.finish()) == MOST_LINKS + 1
    # Paid for by the token: nothing is known of slots.
    assert book.begin(replace(ONE, hardware="cloud"), MODEL, prompt, loads=False) is None
    assert book.begin(replace(ONE, kind="anthropic"), MODEL, prompt, loads=False) is None
    assert book.is_empty
    # Only as many links are made as somebody may hold, and one more.
    other = read(book, chat("y" * 10**6))
    serve(book, ONE, chat("x" * 10**6))
    book.find(other, 1.0)
    assert len(other.links) <= 2


def test_no_text_is_kept() -> None:
    book = PrefixBook()
    secret = "my secret prompt " * 300
    serve(book, ONE, chat(secret))
    seen, todo = set(), [book]
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, type):
            continue
        seen.add(id(one))
        assert not isinstance(one, bytes | str) or b"secret" not in (one.encode() if isinstance(one, str) else one)
        todo += gc.get_referents(one)


def test_another_process_or_book_has_other_links() -> None:
    links = [read(book, chat(TURN)).finish() for book in (PrefixBook(), PrefixBook())]
    assert not set(links[0]) & set(links[1])


def test_models_that_clients_make_up_do_not_pile_up() -> None:
    book = PrefixBook()
    for number in range(1000):
        serve(book, FOUR, chat(TURN, model=f"m{number}"))
    assert len(book._slots) <= 256
