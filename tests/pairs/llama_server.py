"""llama.cpp's own server with a template that makes a tiny model call tools and think; until standard input ends.

The model alone does neither: the template shows it worked examples.
"""

from __future__ import annotations

import sys

import xllamacpp

_TEMPLATE = """
{%- macro example(question, answer) -%}
<|im_start|>user
{{ question }}<|im_end|>
<|im_start|>assistant
{{ answer }}<|im_end|>
{% endmacro -%}
{%- macro call(name, arguments) -%}
<tool_call>
{"name": {{ name | tojson }}, "arguments": {{ arguments if arguments is string else arguments | tojson }}}
</tool_call>
{%- endmacro -%}
{%- if tools -%}
<|im_start|>system
You can call these functions. To call one, answer with a JSON object inside <tool_call></tool_call>.
{%- for tool in tools %}
{{ tool.function | tojson }}
{%- endfor %}<|im_end|>
{% for city in ["Rome", "Berlin", "Madrid"] -%}
{{ example("What is the weather in " + city + "?", call("get_weather", {"city": city})) }}
{%- endfor -%}
{%- endif -%}
{%- if enable_thinking -%}
{%- for thing, colour in [["snow", "white"], ["coal", "black"], ["the sky", "blue"], ["blood", "red"]] -%}
{%- set thought = "<think>\nThe user asks about " + thing + ".\n</think>\n\n" -%}
{{ example("Which colour is " + thing + "?", thought + "The colour is " + colour + ".") }}
{%- endfor -%}
{%- endif -%}
{%- for message in messages -%}
{%- if message.role == "assistant" -%}
<|im_start|>assistant
{% if message.reasoning_content -%}
<think>
{{ message.reasoning_content }}
</think>

{% endif -%}
{{ message.content or "" }}
{%- for one in message.tool_calls or [] -%}
{{ call(one.function.name, one.function.arguments) }}
{%- endfor -%}
<|im_end|>
{% elif message.role == "tool" -%}
<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response><|im_end|>
{% else -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% if enable_thinking -%}
<think>
{% endif -%}
{%- endif -%}
"""


def main() -> None:
    """Serve the model named on the command line, with the template of its file where `own` is said behind the name; its
    address is the one line of output."""
    model, alias, *own = sys.argv[1:]
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = {alias}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = 2
    params.n_ctx = 8192
    # Two would spin whenever one of them has no core, and tests share those.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.n_gpu_layers = 0
    params.warmup = False
    params.ui = False
    params.cache_ram_mib = 0
    params.offline = True
    params.verbosity = 0
    params.use_jinja = True
    params.chat_template = "" if own else _TEMPLATE.strip()
    params.enable_reasoning = 0
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
