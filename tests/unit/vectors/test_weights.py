"""A store whose model is given other weights between two looks at its server's list."""

from __future__ import annotations

from pathlib import Path

import msgspec
import uvloop

from ollama_proxy.lab.device import DEVICES, SMALL
from tests.support.devices import devices
from tests.unit.vectors.corpus import ANN, Shop


def test_nothing_of_weights_that_were_just_exchanged_comes_into_a_store(tmp_path: Path) -> None:
    async def scene() -> None:
        async with devices(speed=50, specs={"nvidia": DEVICES["nvidia"]}) as stand:
            shop = Shop(tmp_path)
            shop.ingest._embedder = stand.proxy.embedder
            store = await shop.library.add_store(ANN, {"name": "notes", "model": SMALL})
            [first] = await shop.bring(store.id, {"a.txt": "giraffes eat leaves"})
            await shop.work()
            assert (await shop.library.attached(ANN, store.id, first.file)).status == "completed"
            models = stand.servers["nvidia"].models
            entry = {**models[SMALL].entry, "digest": "f" * 64}
            models[SMALL] = msgspec.structs.replace(models[SMALL], digest="f" * 64, entry=entry)
            [second] = await shop.bring(store.id, {"b.txt": "giraffes eat leaves"})
            for _ in range(8):
                await shop.work()
                shop.now_s += 61
            found = await shop.library.attached(ANN, store.id, second.file)
            assert found.status == "failed"
            assert found.error is not None
            assert "digest ffffffffffff" in found.error
            await shop.close()

    uvloop.run(scene())
