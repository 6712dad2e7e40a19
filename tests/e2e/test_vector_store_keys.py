"""Keys and vector stores: what one key brings is not there for another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import openai
import pytest

from ollama_proxy.config.key_file import hash_key
from ollama_proxy.config.schema import ApiKey, Auth
from ollama_proxy.config.sections.vectors import VectorStores
from tests.support.running import quiet_config, running_proxy

pytestmark = pytest.mark.e2e

KEYS = {"ann": "ocp_ann-" + "a" * 30, "bob": "ocp_bob-" + "b" * 30, "boss": "ocp_boss-" + "c" * 30}


@pytest.fixture(scope="module")
def clients(work: Path) -> Iterator[dict[str, openai.OpenAI]]:
    keys = {
        name: ApiKey(key_hash=hash_key(key.encode()), permissions=("infer", "admin") if name == "boss" else ("infer",))
        for name, key in KEYS.items()
    }
    quiet = quiet_config(Auth(enabled=True, api_keys=keys))
    # What is left to do here is no other proxy's to do.
    config = msgspec.structs.replace(quiet, vectors=VectorStores(folder=str(work / "keys-and-stores")))
    with running_proxy(config) as proxy:
        url = f"http://127.0.0.1:{proxy.http_port}/v1"
        opened = {
            name: openai.OpenAI(base_url=url, api_key=key, max_retries=0)
            for name, key in {**KEYS, "nobody": "ocp_wrong"}.items()
        }
        yield opened
        for client in opened.values():
            client.close()


def test_a_key_has_its_own_files_and_stores_and_the_operator_all(clients: dict[str, openai.OpenAI]) -> None:
    ann, bob, boss = clients["ann"], clients["bob"], clients["boss"]
    store = ann.vector_stores.create(name="hers")
    file = ann.files.create(file=("a.txt", b"secret"), purpose="assistants")
    ann.vector_stores.files.create(vector_store_id=store.id, file_id=file.id)
    for attempt in (
        lambda: bob.files.retrieve(file.id),
        lambda: bob.files.content(file.id),
        lambda: bob.files.delete(file.id),
        lambda: bob.vector_stores.retrieve(store.id),
        lambda: bob.vector_stores.update(store.id, name="his"),
        lambda: bob.vector_stores.delete(store.id),
        lambda: bob.vector_stores.search(store.id, query="secret"),
        lambda: bob.vector_stores.files.list(store.id),
        lambda: bob.vector_stores.files.retrieve(file.id, vector_store_id=store.id),
        lambda: bob.vector_stores.create(file_ids=[file.id]),
    ):
        with pytest.raises(openai.NotFoundError):
            attempt()
    assert not bob.files.list().data
    assert not bob.vector_stores.list().data
    assert [one.id for one in boss.vector_stores.list()] == [store.id]
    assert boss.files.content(file.id).read() == b"secret"
    with pytest.raises(openai.AuthenticationError):
        clients["nobody"].vector_stores.list()
    with pytest.raises(openai.AuthenticationError):
        clients["nobody"].files.create(file=("a.txt", b"x"), purpose="assistants")
