"""Who may do what, and how much of it: keys, their grants and limits."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from ollama_proxy.config.sections.section import Section

KeyName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}(?![\s\S])")]
Count = Annotated[int, Meta(ge=0, le=1_000_000_000, description="0 = no limit")]
WattHours = Annotated[float, Meta(ge=0, le=1e9, description="0 = no limit")]
NotBlank = Annotated[str, Meta(pattern=r"\S")]
#: A list that is there and empty is more likely a slip than a wish for no limit.
Some = Annotated[tuple[NotBlank, ...], Meta(min_length=1)]


class Grant(Section, frozen=True, omit_defaults=True):
    """What a key may do and use. Written again without what was left out, since a limit that is empty is not read."""

    permissions: Annotated[
        tuple[Literal["infer", "models", "admin"], ...],
        Meta(description="infer: ask models; models: pull, create, copy, delete, push, blobs; admin: run the proxy"),
    ] = ("infer",)
    models: Annotated[Some, Meta(description="patterns of the models it may use and see; left out: all")] = ()
    backends: Annotated[Some, Meta(description="ids of those it may use and see; left out: all")] = ()
    requests_per_minute: Count = 0
    tokens_per_minute: Annotated[Count, Meta(description="of prompts and answers; 0 = no limit")] = 0
    wh_per_hour: WattHours = 0
    wh_per_day: WattHours = 0
    concurrent: Annotated[Count, Meta(description="requests at once; 0 = no limit")] = 0
    continuation: Annotated[
        Literal["auto", "never"],
        Meta(description="whether another backend goes on with its streams that break off; never: an error ends them"),
    ] = "auto"
    expires: Annotated[
        str,
        Meta(
            pattern=r"^([0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?Z?)?)?(?![\s\S])",
            description="UTC, such as 2027-01-31 or 2027-01-31T12:00Z; empty: never",
        ),
    ] = ""


class ApiKey(Grant, frozen=True):
    """One key of the file: its hash, or where it is, or a certificate in its place; never itself."""

    key_hash: Annotated[str, Meta(description="`sha256:` and 64 digits, as `ollama-proxy keys hash` prints it")] = ""
    key_env: Annotated[str, Meta(description="the variable that holds it")] = ""
    key_file: Annotated[str, Meta(description="the file that holds it and nothing else")] = ""
    certificate: Annotated[
        str,
        Meta(
            description="in place of a key: a name (DNS, URI, e-mail address, else common name) in a certificate that "
            "`server.tls.client_ca_file` has signed"
        ),
    ] = ""
    enabled: bool = True

    def __repr__(self) -> str:
        return f"ApiKey(permissions={self.permissions}, enabled={self.enabled})"


class Auth(Section, frozen=True):
    enabled: Annotated[bool, Meta(description="every request needs a key, but those for `/healthz` and the like")] = (
        False
    )
    api_keys: Annotated[dict[KeyName, ApiKey], Meta(description="besides those of `ollama-proxy keys add`")] = {}
    keys_file: Annotated[
        str,
        Meta(
            description="where `ollama-proxy keys` keeps hashes; empty takes ollama-proxy/keys.json in XDG_STATE_HOME "
            "or ~/.local/state"
        ),
    ] = ""
    audit_file: Annotated[
        str,
        Meta(
            description="who changed what: a line of JSON for each act; empty takes ollama-proxy/audit.jsonl in "
            "XDG_STATE_HOME or ~/.local/state"
        ),
    ] = ""
    open_metrics: Annotated[bool, Meta(description="`/metrics` needs no key")] = False


class RateLimit(Section, frozen=True):
    enabled: bool = False
    rate: Annotated[float, Meta(gt=0, le=1e9, description="requests a second")] = 10
    burst: Annotated[int, Meta(ge=1, description="requests at once")] = 20
