"""Searching for personal data without holding the loop: large texts go to processes of their own."""

from gateway.detection.detection import Detection

__all__ = ["Detection"]
