"""The inner tier: from a model group to one upstream answer."""
