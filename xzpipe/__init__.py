"""xzpipe connects stdio MCP servers to a Xiaozhi voice assistant, and keeps them connected."""

__version__ = "0.1.0"
