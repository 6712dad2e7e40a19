"""The child process: llama.cpp's own HTTP server on a loopback port, until its parent is gone.

Started as `python -m ollama_proxy.backends.embedded.child`. Says one JSON line on standard output when it is ready. It
ends when its standard input does, and the kernel kills it with its parent; so not even `kill -9` of the proxy leaves it
behind.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import sys
import threading

_PR_SET_PDEATHSIG = 1
#: Such models have places for so many tokens, and none beyond.
_EMBEDDING_CONTEXT = 512


def main() -> None:
    """Serve until the parent goes."""
    options = _read_options()
    _die_with_parent(options.parent)
    # The terminal's Ctrl-C goes to the whole group; the proxy decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.dup(1)
    os.dup2(2, 1)  # whatever llama.cpp prints goes to standard error; the pipe carries one line only
    address = _serve(options)
    with os.fdopen(out, "w") as ready:
        ready.write(json.dumps({"address": address, "pid": os.getpid()}) + "\n")
    _wait_for_end_of_input()
    os._exit(0)


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--alias", required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--embeds", action="store_true")
    return parser.parse_args()


def _die_with_parent(parent: int) -> None:
    """Ask the kernel for SIGKILL when the parent dies; the check closes the gap before the asking."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _serve(options: argparse.Namespace) -> str:
    import xllamacpp  # noqa: PLC0415  # after the safety net: loading it takes a moment

    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.alias}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = options.slots
    params.n_ctx = _EMBEDDING_CONTEXT * options.slots if options.embeds else options.context
    params.kv_unified = not options.embeds  # the slots share the context instead of cutting it up
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads or min(
        len(os.sched_getaffinity(0)), 8
    )
    params.n_gpu_layers = 0
    params.warmup = False
    params.ui = False
    params.cache_ram_mib = 0  # otherwise every prompt's state is kept, up to 8 GiB
    params.cors_origins = ""  # no web page has business here; the proxy is the only client
    params.n_batch = params.n_ubatch = 1024  # an input to embed must fit into one batch; memory grows with it
    params.n_predict = 1024  # where a request sets no limit: a small model may ramble
    params.offline = True
    params.endpoint_slots = True
    params.verbosity = 0
    params.embedding = True  # chat and completions work beside it
    if not options.embeds:
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(params)
    _kept.append(server)
    return str(server.listening_address)


#: The server stops when its object is collected.
_kept: list[object] = []


def _wait_for_end_of_input() -> None:
    done = threading.Event()

    def watch() -> None:
        while sys.stdin.buffer.read(1):
            continue
        done.set()

    threading.Thread(target=watch, daemon=True).start()
    done.wait()


if __name__ == "__main__":
    main()
