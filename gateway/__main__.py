"""``python -m gateway`` is ``llm-gateway``."""

from gateway.cli import main

if __name__ == "__main__":
    main()
