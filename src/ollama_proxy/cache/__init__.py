"""Answers kept for requests that come again: what makes two requests equal, what is kept, and where."""
