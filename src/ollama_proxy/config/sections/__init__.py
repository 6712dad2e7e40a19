"""Parts of the configuration's types, a file a part; `config/schema.py` puts them together."""
