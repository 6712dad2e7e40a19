"""Who is let in, and what gets out: hostile clients against real servers."""
