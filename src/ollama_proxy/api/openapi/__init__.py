"""The OpenAPI document of everything on the HTTP port, and a page to read it and try it.

`openapi.json` is built from `sources/` and from the code by `bin/generate`; a test holds it to both.
"""
