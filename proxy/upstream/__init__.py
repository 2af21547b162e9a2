"""Connections to providers. A stream is delivered to a sink, a callback: no task a chunk."""
