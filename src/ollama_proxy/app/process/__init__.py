"""The process itself: its ports, its start, its memory, its successor, its leaving."""
