"""Files, stores and searches through the library, over real files on the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.library import Attached, Chunking, Page, Query, Wanted
from ollama_proxy.vectors.catalogue import stores
from tests.unit.vectors.corpus import ANN, BOB, Shop

TEXTS: dict[str, str | bytes] = {
    "baker.txt": "Bread is baked before dawn. The baker sells bread and cheese.",
    "weather.md": "# Storm\n\nA storm came over the river. The river rose.",
    "music.html": "<html><head><script>piano piano</script></head><body><p>A piano in tune</p></body></html>",
}


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def test_a_text_is_found_by_meaning_and_by_words_once_it_is_completed(tmp_path: Path) -> None:
    async def ask() -> None:
        shop = Shop(tmp_path)
        store = await shop.library.add_store(ANN, {"name": "notes"})
        await shop.bring(store.id, TEXTS)
        assert not await shop.library.search(ANN, store.id, Query(("bread",)))
        await shop.work()
        dense = await shop.library.search(ANN, store.id, Query(("river storm",), text=0))
        assert next(hit.name for hit in dense) == "weather.md"
        assert dense[0].score > dense[1].score
        [words, *_] = await shop.library.search(ANN, store.id, Query(("baked dawn",), dense=0))
        assert (words.name, words.score) == ("baker.txt", 1.0)
        both = await shop.library.search(ANN, store.id, Query(("bread cheese baker",), most=1))
        assert [hit.name for hit in both] == ["baker.txt"]
        found = await shop.library.store(ANN, store.id)
        assert found.counts.completed == 3
        assert found.dimensions == 8
        assert found.digest == "sha256:1"
        await shop.close()

    run(ask())


def test_a_passage_says_where_it_stands_in_the_text(tmp_path: Path) -> None:
    text = "\n\n".join(f"Paragraph {number} is about wine and clock number {number}." for number in range(20))

    async def ask() -> None:
        shop = Shop(tmp_path)
        store = await shop.library.add_store(ANN, {})
        [file] = await shop.bring(store.id, {"long.txt": text})
        await shop.work()
        hits = await shop.library.search(ANN, store.id, Query(("clock number 17",), most=50))
        assert all(text[hit.start : hit.end] == hit.text for hit in hits)
        [first, *_] = await shop.library.search(ANN, store.id, Query(("17",), dense=0))
        assert "17" in first.text
        pieces = await shop.library.passages(ANN, store.id, file.file)
        assert "".join(pieces) == text
        await shop.close()

    run(ask())


def test_places_are_those_of_the_text_that_is_told_where_passages_share_nothing(tmp_path: Path) -> None:
    text = "\n\n".join(f"Paragraph {number} is about wine." for number in range(20))

    async def ask() -> None:
        shop = Shop(tmp_path)
        store = (await shop.library.add_store(ANN, {})).id
        kept = await shop.library.add_file(ANN, "long.txt", "assistants", text.encode(), None)
        await shop.library.attach(ANN, store, [Wanted(kept.id, chunking=Chunking(16, 0))], batch=False)
        await shop.work()
        told = "".join(await shop.library.passages(ANN, store, kept.id))
        hits = await shop.library.search(ANN, store, Query(("wine",), most=50))
        assert len(hits) > 5
        assert [told[hit.start : hit.end] for hit in hits] == [hit.text for hit in hits]
        assert sorted(shop.embedder.asked) == sorted(["wine", *(hit.text for hit in hits)])
        assert told == text
        await shop.close()

    run(ask())


def test_attributes_limit_a_search_and_can_be_changed(tmp_path: Path) -> None:
    async def ask() -> None:
        shop = Shop(tmp_path)
        store = await shop.library.add_store(ANN, {})
        files = await shop.bring(store.id, TEXTS)
        await shop.work()

        async def names(filters: dict[str, Any], **weights: float) -> set[str]:
            query = Query(("bread river piano",), filters=filters, **weights)
            return {hit.name for hit in await shop.library.search(ANN, store.id, query)}

        one = {"type": "eq", "key": "name", "value": "baker.txt"}
        for weights in ({}, {"dense": 0.0}, {"text": 0.0}):
            assert await names(one, **weights) == {"baker.txt"}
        assert await names({"type": "nin", "key": "name", "value": ["baker.txt"]}) == {"weather.md", "music.html"}
        await shop.library.set_attributes(ANN, store.id, files[0].file, {"name": "other"})
        assert await names(one) == set()
        assert await names({"type": "eq", "key": "name", "value": "other"}, text=0.0) == {"baker.txt"}
        await shop.close()

    run(ask())


def test_nobody_sees_what_belongs_to_another_key(tmp_path: Path) -> None:
    async def ask() -> None:
        shop = Shop(tmp_path)
        store = await shop.library.add_store(ANN, {"name": "hers"})
        [file, *_] = await shop.bring(store.id, TEXTS)
        await shop.work()
        library, page = shop.library, Page()
        attempts = [
            library.store(BOB, store.id),
            library.store(BOB, "hers", by_name=True),
            library.file(BOB, file.file),
            library.content(BOB, file.file),
            library.delete_file(BOB, file.file),
            library.delete_store(BOB, store.id),
            library.attached(BOB, store.id, file.file),
            library.passages(BOB, store.id, file.file),
            library.search(BOB, store.id, Query(("bread",))),
            library.set_attributes(BOB, store.id, file.file, {}),
            library.detach(BOB, store.id, file.file),
        ]
        for attempt in attempts:
            with pytest.raises(ProxyError) as caught:
                await attempt
            assert caught.value.kind is ErrorKind.NOT_FOUND
        assert (await library.stores(BOB, page), await library.files(BOB, "", page)) == (([], False), ([], False))
        his = await library.add_store(BOB, {})
        with pytest.raises(ProxyError):
            await library.attach(BOB, his.id, [Wanted(file.file)], batch=False)
        await shop.close()

    run(ask())


def test_what_is_deleted_is_found_no_more_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async def ask() -> None:
        shop = Shop(tmp_path)
        store = await shop.library.add_store(ANN, {})
        files = await shop.bring(store.id, TEXTS)
        await shop.work()
        await shop.library.detach(ANN, store.id, files[0].file)
        assert "baker.txt" not in {hit.name for hit in await shop.library.search(ANN, store.id, Query(("bread",)))}
        await shop.library.delete_file(ANN, files[1].file)
        assert {hit.name for hit in await shop.library.search(ANN, store.id, Query(("river",)))} == {"music.html"}
        await shop.work()
        assert await shop.index.count(store.id) == 1
        await shop.library.delete_store(ANN, store.id)
        await shop.work()
        assert await shop.index.count(store.id) == 0
        assert [path.name for path in (tmp_path / "files").iterdir()]
        assert len(await _left(shop)) == 0
        await shop.close()

    async def _left(shop: Shop) -> list[Any]:
        return await shop.catalogue.run(lambda db: db.execute("SELECT * FROM passages").fetchall())

    run(ask())


def test_a_file_that_cannot_be_read_fails_by_itself_and_says_why(tmp_path: Path) -> None:
    async def ask() -> None:
        shop = Shop(tmp_path)
        store = await shop.library.add_store(ANN, {})
        bad = {"empty.txt": b"  ", "picture.txt": b"\x89PNG\r\n\x1a\n\0\0", "fake.pdf": b"no PDF at all"}
        await shop.bring(store.id, {**bad, **TEXTS})
        await shop.work()
        attached, _ = await shop.library.attachments(ANN, store.id, "failed", "", Page())
        told = {one.name: (one.error_code, one.error) for one in attached}
        assert told["empty.txt"] == ("invalid_file", "the file is empty")
        assert told["picture.txt"][0] == "unsupported_file"
        assert told["fake.pdf"][0] == "invalid_file"
        assert (await shop.library.store(ANN, store.id)).counts.completed == 3
        await shop.close()

    run(ask())


def test_the_job_goes_on_after_any_step_and_does_nothing_twice(tmp_path: Path) -> None:
    """Each step is a transaction of its own, so a kill is a start that ends between two of them."""
    text = "\n\n".join(f"Bread number {number} with wine and cheese, and a clock." for number in range(40))

    async def ask() -> None:
        shop = Shop(tmp_path)
        store = (await shop.library.add_store(ANN, {})).id
        await shop.bring(store, {"a.txt": text, "b.txt": "A storm. " * 30})
        asked: list[str] = []
        for _ in range(200):
            found = await shop.library.store(ANN, store)
            if found.counts.completed == 2:
                break
            names = {hit.name for hit in await shop.library.search(ANN, store, Query(("bread storm",)))}
            attached, _ = await shop.library.attachments(ANN, store, "completed", "", Page())
            assert names <= {one.name for one in attached}
            await shop.work(1)
            asked += shop.embedder.asked
            await shop.close()
            shop = Shop(tmp_path)
        whole: Attached
        total = 0
        for whole in (await shop.library.attachments(ANN, store, "", "", Page()))[0]:
            assert whole.status == "completed"
            assert whole.done == whole.passages
            total += whole.done
        searches = {"bread storm"}
        assert len([one for one in asked if one not in searches]) == total
        assert await shop.index.count(store) == total
        await shop.close()

    run(ask())


def test_a_file_that_is_half_written_into_its_index_is_not_found_and_written_again(tmp_path: Path) -> None:
    async def ask() -> None:
        shop = Shop(tmp_path)
        store = (await shop.library.add_store(ANN, {})).id
        await shop.bring(store, TEXTS)
        kept, shop.index.put = shop.index.put, _break_behind(shop.index.put)  # type: ignore[method-assign]
        await shop.work()
        assert await shop.index.count(store) > 0
        assert not await shop.library.search(ANN, store, Query(("bread river piano",)))
        shop.index.put = kept  # type: ignore[method-assign]
        shop.now_s += 60
        await shop.work()
        assert await shop.index.count(store) == 3
        assert len(await shop.library.search(ANN, store, Query(("bread river piano",), text=0))) == 3
        await shop.close()

    run(ask())


def test_faults_that_may_go_away_are_waited_for_and_others_fail_the_file(tmp_path: Path) -> None:
    async def ask() -> None:
        shop = Shop(tmp_path)
        store = (await shop.library.add_store(ANN, {})).id
        [file] = await shop.bring(store, {"a.txt": "bread"})
        shop.embedder.fault = ProxyError(ErrorKind.NO_HEALTHY_BACKEND, "nobody is there")
        await shop.work()
        assert shop.ingest.waits_for == "nobody is there"
        assert (await shop.library.attached(ANN, store, file.file)).status == "in_progress"
        shop.now_s += 60
        shop.embedder.fault = ProxyError(ErrorKind.MODEL_NOT_FOUND, "model 'x' not found")
        await shop.work()
        found = await shop.library.attached(ANN, store, file.file)
        assert (found.status, found.error_code, found.error) == ("failed", "server_error", "model 'x' not found")
        shop.embedder.fault = None
        await shop.library.attach(ANN, store, [Wanted(file.file)], batch=False)
        await shop.work()
        assert (await shop.library.attached(ANN, store, file.file)).status == "completed"
        await shop.close()

    run(ask())


def test_a_store_that_cannot_go_on_holds_up_no_other(tmp_path: Path) -> None:
    async def ask() -> None:
        shop = Shop(tmp_path)
        mine = (await shop.library.add_store(ANN, {})).id
        leaving = (await shop.library.add_store(ANN, {})).id
        his = (await shop.library.add_store(BOB, {})).id
        await shop.bring(mine, {"a.txt": "bread"})
        await shop.library.delete_store(ANN, leaving)
        [file] = await shop.bring(his, {"b.txt": "wine"}, BOB)
        # Her key was revoked, and the server of the one that she deleted is away.
        shop.callers["ann"] = None
        drop, shop.index.drop = shop.index.drop, _break_behind(shop.index.drop)  # type: ignore[method-assign]
        await shop.work()
        assert (await shop.library.attached(BOB, his, file.file)).status == "completed"
        assert shop.embedder.asked == ["wine"]
        assert shop.ingest.waits_for
        shop.index.drop = drop  # type: ignore[method-assign]
        del shop.callers["ann"]
        shop.now_s += 60
        await shop.work()
        assert shop.embedder.asked == ["wine", "bread"]
        assert not shop.ingest.waits_for
        assert not await shop.catalogue.run(stores.leaving_stores, int(shop.now_s))
        await shop.close()

    run(ask())


def _break_behind(done: Any) -> Any:
    async def do_and_break(*arguments: Any) -> None:
        await done(*arguments)
        raise RuntimeError("killed")

    return do_and_break


def test_small_files_share_a_request_and_one_that_is_at_fault_fails_alone(tmp_path: Path) -> None:
    async def ask() -> None:
        shop = Shop(tmp_path)
        store = (await shop.library.add_store(ANN, {})).id
        await shop.bring(store, {f"{n}.txt": f"bread {n}" for n in range(8)})
        await shop.work()
        assert shop.embedder.sizes == [4, 4]
        await shop.bring(store, {"a.txt": "wine", "b.txt": "poison", "c.txt": "cheese"})
        await shop.work()
        counts = (await shop.library.store(ANN, store)).counts
        assert (counts.completed, counts.failed) == (10, 1)
        [failed], _ = await shop.library.attachments(ANN, store, "failed", "", Page())
        assert (failed.name, failed.error) == ("b.txt", "this text cannot be embedded")
        assert await shop.index.count(store) == 10
        await shop.close()

    run(ask())


def test_the_job_pauses_and_batches_are_cancelled(tmp_path: Path) -> None:
    async def ask() -> None:
        shop = Shop(tmp_path)
        store = (await shop.library.add_store(ANN, {})).id
        files = [await shop.library.add_file(ANN, f"{n}.txt", "assistants", b"bread", None) for n in range(3)]
        _, batch = await shop.library.attach(ANN, store, [Wanted(one.id) for one in files], batch=True)
        shop.paused = "on battery"
        await shop.work()
        assert shop.ingest.waits_for == "on battery"
        assert not shop.embedder.asked
        assert (await shop.library.batch(ANN, store, batch)).counts.in_progress == 3
        shop.paused = ""
        await shop.work(3 + 1 + 1)
        cancelled = await shop.library.cancel_batch(ANN, store, batch)
        await shop.work()
        assert (cancelled.status, cancelled.counts.completed, cancelled.counts.cancelled) == ("cancelled", 1, 2)
        assert await shop.index.count(store) == 1
        await shop.close()

    run(ask())


def test_stores_that_nobody_uses_and_files_whose_time_is_over_are_deleted(tmp_path: Path) -> None:
    async def ask() -> None:
        shop = Shop(tmp_path)
        store = (await shop.library.add_store(ANN, {"expire_days": 1})).id
        file = await shop.library.add_file(ANN, "a.txt", "assistants", b"bread", 3600)
        shop.now_s += 80_000
        await shop.library.search(ANN, store, Query(("bread",)))
        shop.now_s += 80_000
        await shop.work()
        assert (await shop.library.store(ANN, store)).id == store
        with pytest.raises(ProxyError):
            await shop.library.file(ANN, file.id)
        shop.now_s += 90_000
        await shop.work()
        with pytest.raises(ProxyError):
            await shop.library.store(ANN, store)
        await shop.close()

    run(ask())


def test_what_is_over_is_gone_before_the_job_comes_by(tmp_path: Path) -> None:
    async def ask() -> None:
        shop = Shop(tmp_path)
        lasting = (await shop.library.add_store(ANN, {})).id
        store = (await shop.library.add_store(ANN, {"expire_days": 1})).id
        file = await shop.library.add_file(ANN, "a.txt", "assistants", b"bread", 3600)
        for one in (lasting, store):
            await shop.library.attach(ANN, one, [Wanted(file.id)], batch=False)
        await shop.bring(lasting, {"b.txt": "bread and wine"})
        await shop.work()
        shop.now_s += 3599
        assert len(await shop.library.search(ANN, lasting, Query(("bread",)))) == 2
        shop.now_s += 1
        for query in (Query(("bread",), text=0), Query(("bread",), dense=0)):
            assert [hit.name for hit in await shop.library.search(ANN, lasting, query)] == ["b.txt"]
        assert (await shop.library.store(ANN, lasting)).counts.completed == 1
        assert [one.name for one in (await shop.library.files(ANN, "", Page()))[0]] == ["b.txt"]
        for gone in (
            shop.library.file(ANN, file.id),
            shop.library.content(ANN, file.id),
            shop.library.attached(ANN, lasting, file.id),
        ):
            with pytest.raises(ProxyError):
                await gone
        shop.now_s += 86_400
        with pytest.raises(ProxyError):
            await shop.library.search(ANN, store, Query(("bread",)))
        assert [one.id for one in (await shop.library.stores(ANN, Page()))[0]] == [lasting]
        await shop.work()
        assert await shop.index.count(lasting) == 1
        assert not (tmp_path / "files" / file.id).exists()
        await shop.close()

    run(ask())


def test_pages_of_a_list_follow_each_other(tmp_path: Path) -> None:
    async def ask() -> None:
        shop = Shop(tmp_path)
        made = [(await shop.library.add_store(ANN, {"name": str(n)})).id for n in range(5)]
        first, more = await shop.library.stores(ANN, Page(limit=2))
        assert [one.id for one in first] == made[:2:-1]
        assert more
        rest, more = await shop.library.stores(ANN, Page(limit=9, after=first[-1].id))
        assert [one.id for one in rest] == made[2::-1]
        assert not more
        up, _ = await shop.library.stores(ANN, Page(limit=9, ascending=True, before=made[2]))
        assert [one.id for one in up] == made[:2]
        await shop.close()

    run(ask())


def test_words_that_are_everywhere_do_not_hold_up_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ollama_proxy.vectors.catalogue.lookup._LARGE", 20)

    async def ask() -> None:
        shop = Shop(tmp_path)
        store = (await shop.library.add_store(ANN, {})).id
        await shop.bring(store, {f"{n}.txt": f"the bread of day {n}" for n in range(30)})
        await shop.work()

        async def names(text: str) -> list[str]:
            query = Query((text,), dense=0, most=50)
            return [hit.name for hit in await shop.library.search(ANN, store, query)]

        assert await names("the bread of 17") == ["17.txt"]
        assert len(await names("the bread")) == 30
        await shop.close()

    run(ask())


def test_files_that_come_at_once_share_the_room_of_their_owner(tmp_path: Path) -> None:
    async def ask() -> None:
        shop = Shop(tmp_path)
        content = b"x" * (1 << 20)
        done = await asyncio.gather(
            *(shop.library.add_file(ANN, f"{n}.txt", "assistants", content, None) for n in range(6)),
            return_exceptions=True,
        )
        refused = [one for one in done if isinstance(one, ProxyError)]
        assert [one.kind for one in refused] == [ErrorKind.TOO_LARGE] * 2
        kept, _ = await shop.library.files(ANN, "", Page())
        assert len(kept) == 4
        assert {path.name for path in (tmp_path / "files").iterdir()} == {one.id for one in kept}
        await shop.close()

    run(ask())


@pytest.mark.parametrize("kind", [ErrorKind.LIMITS_EXCLUDE_ALL, ErrorKind.BACKEND_FAILED])
def test_a_fault_that_lasts_ends_the_file_after_some_attempts(tmp_path: Path, kind: ErrorKind) -> None:
    async def ask() -> None:
        shop = Shop(tmp_path)
        store = (await shop.library.add_store(ANN, {})).id
        [file] = await shop.bring(store, {"a.txt": "bread"})
        shop.embedder.fault = ProxyError(kind, "other weights")
        for _ in range(5):
            await shop.work()
            assert (await shop.library.attached(ANN, store, file.file)).status == "in_progress"
            shop.now_s += 60
        await shop.work()
        found = await shop.library.attached(ANN, store, file.file)
        assert (found.status, found.error) == ("failed", "other weights")
        await shop.close()

    run(ask())


def test_a_full_disk_is_no_reason_not_to_search_or_to_delete(tmp_path: Path) -> None:
    async def ask() -> None:
        shop = Shop(tmp_path)
        store = (await shop.library.add_store(ANN, {})).id
        await shop.bring(store, {"a.txt": "bread"})
        await shop.work()
        shop.now_s += 3600
        await shop.catalogue.run(lambda db: db.execute("PRAGMA query_only = 1"))
        assert len(await shop.library.search(ANN, store, Query(("bread",)))) == 1
        await shop.catalogue.run(lambda db: db.execute("PRAGMA query_only = 0"))
        await shop.close()

    run(ask())


def test_stores_take_turns(tmp_path: Path) -> None:
    async def ask() -> None:
        shop = Shop(tmp_path)
        hers = (await shop.library.add_store(ANN, {})).id
        his = (await shop.library.add_store(BOB, {})).id
        await shop.bring(hers, {"long.txt": "bread and butter. " * 200})
        [short] = await shop.bring(his, {"short.txt": "wine"}, BOB)
        while (await shop.library.attached(BOB, his, short.file)).status != "completed":
            assert await shop.ingest.step()
        assert sum(shop.embedder.sizes) < 20
        await shop.close()

    run(ask())


def test_owners_share_the_time_whatever_their_files_are_like(tmp_path: Path) -> None:
    async def ask() -> None:
        shop = Shop(tmp_path)
        hers = [(await shop.library.add_store(ANN, {})).id for _ in range(3)]
        his = (await shop.library.add_store(BOB, {})).id
        for store in hers:
            # None of them has passages, so that there is always another to be read ahead.
            await shop.bring(store, {f"{n}.docx": "no document" for n in range(5)})
        [short] = await shop.bring(his, {"short.txt": "wine"}, BOB)
        steps = 0
        while (await shop.library.attached(BOB, his, short.file)).status != "completed":
            assert await shop.ingest.step()
            steps += 1
        assert steps <= 2 * 3
        # Hers took turns meanwhile.
        failed = [(await shop.library.store(ANN, store)).counts.failed for store in hers]
        assert max(failed) <= 1
        await shop.close()

    run(ask())


def test_what_was_begun_is_ended_in_a_pause(tmp_path: Path) -> None:
    async def ask() -> None:
        shop = Shop(tmp_path)
        waiting = (await shop.library.add_store(ANN, {})).id
        emptied = (await shop.library.add_store(ANN, {})).id
        [gone] = await shop.bring(emptied, {"a.txt": "bread"})
        await shop.work()
        await shop.bring(waiting, {"b.txt": "wine"})
        await shop.library.detach(ANN, emptied, gone.file)
        shop.paused = "on battery"
        await shop.work()
        assert await shop.index.count(emptied) == 0
        assert shop.ingest.waits_for == "on battery"
        assert "wine" not in shop.embedder.asked
        await shop.close()

    run(ask())
