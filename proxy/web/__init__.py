"""The aiohttp server: it reads requests and writes answers, and decides nothing."""
