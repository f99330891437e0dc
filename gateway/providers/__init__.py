"""Providers: URL, credentials, quirks and error classes per kind."""
