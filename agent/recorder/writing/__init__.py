"""Writes segments and journal lines: the writer's thread, its plan, retries, and repair of unfinished segments."""
