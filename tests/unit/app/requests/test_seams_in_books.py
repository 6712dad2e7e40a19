"""What the books say of an answer that several attempts have written: ledger, metrics, request log, quota."""

from __future__ import annotations

import io

import msgspec
import pytest

from ollama_proxy.app.energy.accounting import Accounting
from ollama_proxy.app.requests.settlement import Books
from ollama_proxy.domain.answer import Finished, Progress, Usage
from ollama_proxy.domain.call import Call, Dialect, Generation, Operation
from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.quota import Allowance, Quota
from ollama_proxy.energy.ledger.row import LedgerRow
from ollama_proxy.observability.logs import RequestLog
from tests.unit.app.requests import test_continuing as broken_off
from tests.unit.app.requests.test_dispatch import MODEL, Client, Stage
from tests.unit.app.requests.test_preempting import LATER, URGENT, end, make_stage, submit, write
from tests.unit.app.requests.test_waiting import on_a_loop, opened, settle


def keep_rows(stage: Stage) -> list[LedgerRow]:
    rows: list[LedgerRow] = []
    stage.dispatcher.accounting = Accounting(stage.fleet, record=rows.append)
    return rows


def of_bob(stage: Stage, limit: int = 0) -> Quota:
    """A request of a key whose tokens are counted."""
    quota = Quota(Allowance(tokens_per_minute=1000))
    call = Call("r1", Dialect.OLLAMA, Operation.CHAT, MODEL, True, stage.now_s, lambda: Generation(prompt="hi"))
    call.max_tokens, call.caller = limit, Caller("bob", quota=quota)
    stage.dispatcher.submit(call, stage.client)
    return quota


@on_a_loop
async def test_the_parts_of_an_answer_add_up_and_its_first_token_came_when_it_came() -> None:
    stage, written, patient = make_stage("a"), io.StringIO(), Client()
    rows = keep_rows(stage)
    log = RequestLog(written)
    stage.dispatcher.books = Books(stage.fleet, stage.metrics, log)
    submit(stage, patient, limit=10, **LATER)
    write(opened(stage)[0], "one two three")
    submit(stage, Client(), **URGENT)
    await settle()
    write(opened(stage)[1], "now")
    stage.now_s += 100
    end(opened(stage)[1])
    await settle()
    write(opened(stage)[2], " four")
    opened(stage)[2].sink.on_end(Finished("stop", Usage(8, 1)))
    await settle()
    stage.dispatcher.accounting.settle(stage.now_s)
    assert [(row.outcome, row.prompt_tokens, row.output_tokens) for row in rows] == [
        ("cancelled", None, 3),
        ("ok", 5, 1),
        ("ok", 5, 1),
    ]
    page = stage.metrics.render()[0].decode()
    assert 'ollama_proxy_ttft_seconds_bucket{backend="a",le="0.05"} 2.0' in page
    assert 'ollama_proxy_tokens_total{backend="a",direction="output"} 5.0' in page
    assert 'ollama_proxy_tokens_total{backend="a",direction="prompt"} 10.0' in page
    log.flush()
    told = [msgspec.json.decode(line) for line in written.getvalue().splitlines()]
    assert [(line["ttft_ms"], line["output_tokens"], line.get("prompt_tokens")) for line in told] == [
        (0.0, 1, 5),
        (0.0, 4, 5),
    ]


@pytest.mark.parametrize(("read", "row"), [(9, 7), (2, 0), (1, None), (None, None)])
def test_a_row_of_the_rest_has_the_prompt_without_what_was_sent_where_that_can_be_told(
    read: int | None, row: int | None
) -> None:
    stage = broken_off.make_stage("a", "b")
    rows = keep_rows(stage)
    broken_off.submit(stage)
    broken_off.write(broken_off.running(stage), "one two")
    broken_off.fail(broken_off.running(stage))
    broken_off.write(broken_off.running(stage), " three")
    broken_off.running(stage).sink.on_end(Finished("stop", Usage(read, 1)))
    stage.dispatcher.accounting.settle(stage.now_s)
    assert [(one.outcome, one.prompt_tokens, one.output_tokens) for one in rows] == [
        ("failed", None, 2),
        ("ok", row, 1),
    ]


def test_tokens_that_nobody_could_count_are_absent() -> None:
    stage = broken_off.make_stage("a", "b")
    rows = keep_rows(stage)
    broken_off.submit(stage)
    broken_off.write(broken_off.running(stage), "one two")
    broken_off.running(stage).progress = None
    broken_off.fail(broken_off.running(stage))
    stage.dispatcher.accounting.settle(stage.now_s)
    assert [(one.outcome, one.output_tokens) for one in rows] == [("failed", None)]
    assert stage.client.error is not None


def test_what_came_before_the_first_token_is_none() -> None:
    stage = broken_off.make_stage("a", "b")
    rows = keep_rows(stage)
    broken_off.submit(stage)
    broken_off.running(stage).progress = Progress((), 0, first=b"role")
    broken_off.running(stage).sink.on_events(())
    broken_off.fail(broken_off.running(stage))
    broken_off.write(broken_off.running(stage), "one")
    broken_off.running(stage).sink.on_end(Finished("stop", Usage(5, 1)))
    stage.dispatcher.accounting.settle(stage.now_s)
    assert [(one.prompt_tokens, one.output_tokens) for one in rows] == [(None, 0), (5, 1)]


def spent(quota: Quota, now_s: float) -> float:
    return quota._tokens.spent_at(now_s)


def test_a_key_pays_for_both_sides_of_a_seam_that_ends_at_the_limit() -> None:
    stage = broken_off.make_stage("a", "b")
    quota = of_bob(stage, limit=3)
    broken_off.write(broken_off.running(stage), "one two")
    broken_off.fail(broken_off.running(stage))
    broken_off.write(broken_off.running(stage), " three")
    broken_off.fail(broken_off.running(stage))
    assert stage.client.outcome is not None
    assert spent(quota, stage.now_s) == 3


@pytest.mark.parametrize(
    ("usage", "tokens"), [(Usage(7, 1), 8), (Usage(1, 1), 3), (Usage(None, 1), 3), (Usage(None, None), 2)]
)
def test_a_key_pays_once_for_what_the_last_one_read_again(usage: Usage, tokens: int) -> None:
    stage = broken_off.make_stage("a", "b")
    quota = of_bob(stage)
    broken_off.write(broken_off.running(stage), "one two")
    broken_off.fail(broken_off.running(stage))
    broken_off.write(broken_off.running(stage), " three")
    broken_off.running(stage).sink.on_end(Finished("stop", usage))
    assert spent(quota, stage.now_s) == tokens
