"""How answers of each dialect end: the end marker, usage and finish reason, read from the tail of what passed by.

The fast lane never parses a stream; these functions look once, at the end, at its last bytes. A whole body has an end
of its own to read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ollama_proxy.domain.answer import Finished
from ollama_proxy.domain.call import Dialect
from ollama_proxy.net.endings.anthropic import read_anthropic_body, read_anthropic_tail
from ollama_proxy.net.endings.ollama import read_ollama_body, read_ollama_tail
from ollama_proxy.net.endings.openai import read_openai_body, read_openai_tail
from ollama_proxy.net.endings.responses import read_responses_body, read_responses_tail

#: How many of the last pieces of a stream are kept to look at: finish reason, usage and end marker may come apart.
TAIL_PIECES = 5

#: The end that a body, or the last events of a stream, tell of; None when they tell of none.
EndReader = Callable[[bytes], Finished | None]

#: By dialect, what reads the end of a body and what reads that of a stream.
ENDINGS: Mapping[Dialect, tuple[EndReader, EndReader]] = {
    Dialect.OLLAMA: (read_ollama_body, read_ollama_tail),
    Dialect.OPENAI: (read_openai_body, read_openai_tail),
    Dialect.RESPONSES: (read_responses_body, read_responses_tail),
    Dialect.ANTHROPIC: (read_anthropic_body, read_anthropic_tail),
}
