"""Names of models as Ollama takes them apart: where one comes from, what it is called, whether it can be a name."""

from __future__ import annotations

import re

import msgspec

from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.bodies.go_syntax import quote

_HOST, _NAMESPACE = "registry.ollama.ai", "library"
_VALID_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_VALID_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_VALID_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")


class ModelRef(msgspec.Struct, frozen=True):
    """A name without what says where it comes from; `source` is `cloud`, `local` or ""."""

    base: str
    source: str

    @property
    def shortest(self) -> str:
        """The name that lists show: host and namespace only where they are not the usual ones, always a tag."""
        host, namespace, model, tag = _split(self.base)
        if host.lower() != _HOST:
            return f"{host}/{namespace}/{model}:{tag}"
        return f"{model}:{tag}" if namespace.lower() == _NAMESPACE else f"{namespace}/{model}:{tag}"

    @property
    def is_valid(self) -> bool:
        """Whether every part is made of what names may be made of."""
        host, namespace, model, tag = _split(self.base)
        return bool(
            _VALID_HOST.fullmatch(host)
            and _VALID_NAMESPACE.fullmatch(namespace)
            and _VALID_PART.fullmatch(model)
            and _VALID_PART.fullmatch(tag)
        )


def parse_ref(name: str) -> ModelRef | None:
    """A name taken apart; None when there is nothing in it. Raises `ProxyError` in Ollama's words."""
    name = name.strip()
    if not name:
        return None
    base, source = _cut_source(name)
    if source and _cut_source(base)[1]:
        raise ProxyError(ErrorKind.INVALID_REQUEST, f"use either :local or :cloud, not both: {quote(name)}")
    ref = ModelRef(base, source)
    if not ref.is_valid:
        raise ProxyError(ErrorKind.INVALID_REQUEST, "invalid model name")
    return ref


def _cut_source(name: str) -> tuple[str, str]:
    before, colon, tag = name.rpartition(":")
    suffix = tag.strip().lower()
    if not colon:
        return name, ""
    if suffix in ("cloud", "local"):
        return before, suffix
    if "/" not in tag and suffix.endswith("-cloud"):
        return f"{before}:{tag.strip()[: -len('-cloud')]}", "cloud"
    return name, ""


def _split(name: str) -> tuple[str, str, str, str]:
    """Host, namespace, model and tag; a part that was promised and is missing spoils the name."""
    tag = "latest"
    if name.rfind(":") > name.rfind("/"):
        name, tag = _cut(name, ":")
    if "/" not in name:
        return _HOST, _NAMESPACE, name, tag
    rest, model = _cut(name, "/")
    if "/" not in rest:
        return _HOST, rest, model, tag
    host, namespace = _cut(rest, "/")
    return host.partition("://")[2] if "://" in host else host, namespace, model, tag


def _cut(text: str, separator: str) -> tuple[str, str]:
    before, _, after = text.rpartition(separator)
    return before or "!MISSING!", after or "!MISSING!"
