"""Hostile input by the thousand, from a seed: documents over the real schema, HTTP bodies, WebSocket frames."""
