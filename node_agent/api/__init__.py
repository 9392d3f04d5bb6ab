"""The agent's own API: an ordinary aiohttp application that is served over streams."""
