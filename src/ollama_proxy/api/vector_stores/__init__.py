"""OpenAI's Files and Vector Stores."""
