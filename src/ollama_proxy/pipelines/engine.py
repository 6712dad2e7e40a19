"""Runs pipelines: one stage after the other, each within its time and budget, all of it accounted for."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec

from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.pipelines import PipelineWish, RunReport, StageReport, Told
from ollama_proxy.domain.vectors import Passage, Search
from ollama_proxy.pipelines.account import Account
from ollama_proxy.pipelines.condition import find_fault
from ollama_proxy.pipelines.kept import KeptTexts, Key
from ollama_proxy.pipelines.limits import check_inputs, find_left, refuse_unknown
from ollama_proxy.pipelines.merge import merge_annotations
from ollama_proxy.pipelines.stages import (
    END,
    Branch,
    Cache,
    Embed,
    Escalate,
    Generate,
    Pipeline,
    Rerank,
    Retrieve,
    Stage,
    read_annotations,
)
from ollama_proxy.pipelines.template import fill
from ollama_proxy.pipelines.workers import Errand, Workers, Writing

#: A time limit that is shorter is over.
_LEAST_LEFT_S = 0.001
_FOR_READERS = (Generate, Escalate, Retrieve, Rerank)


class Engine:
    """The pipelines of one file."""

    def __init__(self, pipelines: Sequence[Pipeline], workers: Workers) -> None:
        self._pipelines = {one.id: one for one in pipelines}
        self._workers = workers
        self._kept = KeptTexts()

    async def run(self, wish: PipelineWish, told: Told) -> RunReport:
        """Run one to its end. Raises `ProxyError` before it has begun."""
        pipeline = self._pipelines.get(wish.pipeline)
        if pipeline is None:
            raise refuse_unknown(wish.pipeline, list(self._pipelines))
        check_inputs(pipeline, wish.inputs)
        return await _Run(pipeline, wish, told, self._workers, self._kept).go()


class _Run:
    """One run. `values` are the texts that templates may name."""

    def __init__(self, pipeline: Pipeline, wish: PipelineWish, told: Told, workers: Workers, kept: KeptTexts) -> None:
        self._pipeline = pipeline
        self._wish = wish
        self._told = told
        self._workers = workers
        self._kept = kept
        self._began_s = workers.now_s()
        # What is not run has no text.
        self._values = {stage.id: "" for stage in pipeline.stages}
        self._values |= {f"input.{name}": text for name, text in wish.inputs.items()}
        #: Those that ran well and whose text is for readers.
        self._ran: list[str] = []
        self._last = ""
        self._passages: dict[str, tuple[Passage, ...]] = {}
        self._to_keep: dict[str, tuple[Key, float]] = {}
        #: A stage failed, or its answer was taken although it was not accepted: what follows is for this run only.
        self._is_lesser = False
        self._reports: list[StageReport] = []
        self._accounts: list[Account] = []
        self._next = ""

    async def go(self) -> RunReport:
        """From the first stage to the last."""
        stages = self._pipeline.stages
        places = {stage.id: place for place, stage in enumerate(stages)} | {END: len(stages)}
        place, error = 0, ""
        while place < len(stages) and not error:
            stage = stages[place]
            self._next = ""
            report = await self._run_stage(stage)
            self._reports.append(report)
            self._told(stage.id, report)
            self._is_lesser = self._is_lesser or bool(report.error)
            if report.error and not self._wish.continue_on_error:
                error = f"stage {stage.id}: {report.error}"
            place = places[self._next] if self._next else place + 1
        joules = [account.joules for account in self._accounts]
        known = [one for one in joules if one is not None]
        return RunReport(
            self._pipeline.id,
            {} if error else self._write_outputs(),
            tuple(self._reports),
            self._workers.now_s() - self._began_s,
            sum(known) if len(known) == len(joules) else None,
            error,
        )

    def _write_outputs(self) -> dict[str, str]:
        templates = self._pipeline.outputs
        if templates:
            return {name: fill(template, self._values) for name, template in templates.items()}
        return {"output": self._last}

    # -- one stage ---------------------------------------------------------------

    async def _run_stage(self, stage: Stage) -> StageReport:
        workers, account = self._workers, Account()
        self._accounts.append(account)
        began_s, began_unix_s = workers.now_s(), workers.unix_s()
        output, error, moved = "", "", ""
        try:
            limit_s = self._limit_s(stage)
            annotations = merge_annotations(stage.read_annotations(), self._wish.annotations)
            errand = Errand(self._wish, f"{self._pipeline.id}/{stage.id}", annotations, account)
            try:
                output, moved = await workers.within(limit_s, self._do(stage, errand))
            except TimeoutError:
                error = f"took longer than {limit_s:g} s"
        except ProxyError as refused:
            error = refused.message
        self._values[stage.id] = output
        if not error:
            self._note(stage, output)
        last = account.works[-1] if account.works else None
        return StageReport(
            stage.id,
            output,
            error,
            last.backend if last is not None else "",
            last.model if last is not None else "",
            began_unix_s,
            workers.now_s() - began_s,
            sum(work.tokens_in for work in account.works),
            account.tokens_out,
            account.joules,
            account.energy_kind,
            sum(work.attempts for work in account.works),
            moved or "; ".join(work.moved for work in account.works if work.moved),
        )

    def _note(self, stage: Stage, output: str) -> None:
        """What follows from a stage that went well."""
        if isinstance(stage, _FOR_READERS):
            self._ran.append(stage.id)
        if not isinstance(stage, Branch) and (output or not isinstance(stage, Cache)):
            self._last = output
        self._keep(stage.id, output)

    def _limit_s(self, stage: Stage) -> float:
        """Seconds for a stage; 0 for no limit. Raises `ProxyError` where there are none left."""
        limits = [one for one in (stage.timeout_seconds, self._wish.stage_timeout_s) if one]
        whole_s = self._pipeline.timeout_seconds
        if whole_s:
            left_s = whole_s - (self._workers.now_s() - self._began_s)
            if left_s < _LEAST_LEFT_S:
                raise ProxyError(ErrorKind.DEADLINE, f"the pipeline's {whole_s:g} s are over")
            limits.append(left_s)
        return min(limits, default=0.0)

    async def _do(self, stage: Stage, errand: Errand) -> tuple[str, str]:
        """The stage's text, and why somebody else than was meant first has made it."""
        match stage:
            case Generate():
                writing = self._compose(stage, stage.model, errand)
                return await self._workers.write(errand, writing, lambda piece: self._told(stage.id, piece)), ""
            case Escalate():
                return await self._escalate(stage, errand)
            case _:
                return await self._do_without_writing(stage, errand), ""

    async def _do_without_writing(self, stage: Embed | Retrieve | Rerank | Cache | Branch, errand: Errand) -> str:
        match stage:
            case Embed():
                return json.dumps(await self._workers.embed(errand, self._fill(stage.text, "text"), stage.model))
            case Retrieve():
                query = self._fill(stage.query, "query")
                search = Search(stage.store, query, stage.most, stage.filters, stage.least_score)
                return self._show(stage.id, await self._workers.retrieve(errand, search))
            case Rerank():
                return await self._rerank(stage, errand)
            case Cache():
                return self._look_up(stage)
            case Branch():
                return self._branch(stage)

    def _branch(self, stage: Branch) -> str:
        about = stage.when.of or (self._ran[-1] if self._ran else "")
        fault = find_fault(stage.when, self._values.get(about, ""))
        self._next = stage.otherwise if fault else stage.then
        return fault or "holds"

    def _fill(self, template: str, what: str) -> str:
        """A text that must not be empty. Raises `ProxyError`."""
        text = fill(template, self._values)
        if not text.strip():
            raise ProxyError(ErrorKind.INVALID_REQUEST, f"its {what} is empty")
        return text

    def _compose(self, stage: Generate | Escalate, model: str, errand: Errand) -> Writing:
        """What a model is asked, within what is left of the budgets. Raises `ProxyError` where that is nothing."""
        prompt = self._fill(stage.prompt, "prompt")
        if self._wish.preserve_context and self._ran:
            earlier = [f"{name}:\n{self._values[name]}" for name in self._ran if self._values[name]]
            prompt = "\n\n".join([*earlier, prompt])
        account, whole = errand.account, self._pipeline.budget
        spent_j = sum(one.known_joules for one in self._accounts)
        written = sum(one.tokens_out for one in self._accounts)
        own = stage.budget
        tokens = find_left((own.tokens, account.tokens_out, "tokens"), (whole.tokens, written, "tokens of the run"))
        joules = find_left((own.joules, account.known_joules, "J"), (whole.joules, spent_j, "J of the run"))
        return Writing(prompt, fill(stage.system, self._values), model, stage.options, round(tokens), joules)

    async def _escalate(self, stage: Escalate, errand: Errand) -> tuple[str, str]:
        faults: list[str] = []
        text: str | None = None
        for step in stage.steps:
            one = errand
            if step.annotations:
                own = merge_annotations(read_annotations(step.annotations), errand.annotations)
                one = msgspec.structs.replace(errand, annotations=own)
            try:
                writing = self._compose(stage, step.model, errand)
                if step.options is not None:
                    writing = msgspec.structs.replace(writing, options=step.options)
                # What may not be accepted is not shown piece by piece.
                text = await self._workers.write(one, writing, _be_quiet)
                fault = find_fault(stage.accept, text)
            except ProxyError as error:
                fault = error.message
            if not fault:
                break
            faults.append(f"{step.model}: {fault}")
        told = "; ".join(faults)
        if len(faults) == len(stage.steps):
            if stage.otherwise == "fail" or text is None:
                raise ProxyError(ErrorKind.BACKEND_FAILED, f"no answer was accepted ({told})")
            self._is_lesser = True
        assert text is not None
        self._told(stage.id, text)
        return text, told

    async def _rerank(self, stage: Rerank, errand: Errand) -> str:
        passages = self._passages.get(stage.of, ())
        if not passages:
            return self._show(stage.id, ())
        query = self._fill(stage.query, "query")
        texts = [one.text for one in passages]
        best = await self._workers.rerank(errand, query, texts, stage.model, stage.most)
        return self._show(stage.id, [passages[place] for place in best])

    def _show(self, stage: str, passages: Sequence[Passage]) -> str:
        self._passages[stage] = tuple(passages)
        return "\n\n".join(f"[{number}] {one.file_name}\n{one.text}" for number, one in enumerate(passages, 1))

    # -- texts of earlier runs -----------------------------------------------------

    def _look_up(self, stage: Cache) -> str:
        client = json.dumps(self._wish.caller.identify())
        key = (client, self._pipeline.id, stage.keep, fill(stage.key, self._values))
        now_s = self._workers.now_s()
        # A text that is made with the texts of all stages before it depends on more than the key.
        text = None if self._wish.preserve_context else self._kept.find(key, now_s)
        if text is None:
            self._to_keep[stage.keep] = key, now_s + stage.ttl_seconds
            return ""
        self._values[stage.keep] = text
        self._next = stage.then
        self._told(stage.id, text)
        return text

    def _keep(self, stage: str, output: str) -> None:
        key, until_s = self._to_keep.pop(stage, (None, 0.0))
        if key is not None and output and not self._is_lesser and not self._wish.preserve_context:
            self._kept.keep(key, output, until_s)


def _be_quiet(piece: str) -> None:
    """Tell nobody."""
