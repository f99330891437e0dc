"""llm-gateway: an async reverse proxy between applications and model providers."""

__version__ = "0.1.0"
