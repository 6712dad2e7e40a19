"""`python -m ollama_proxy`."""

from ollama_proxy.cli.start import main

main()
