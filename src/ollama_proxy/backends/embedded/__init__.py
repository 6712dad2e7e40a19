"""The embedded model: llama.cpp in a child process, supervised; an OpenAI-compatible server like any other."""
