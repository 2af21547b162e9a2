"""Provider kinds, pure: an OpenAI request in, the provider's request out. One file each."""
