"""`python -m ollama_proxy`."""

from ollama_proxy.cli.main import main

main()
