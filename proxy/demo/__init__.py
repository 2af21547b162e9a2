"""The demo upstream: an OpenAI-compatible provider that needs no account and invents nothing."""
