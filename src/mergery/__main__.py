"""``python -m mergery``."""

from mergery.cli import main

if __name__ == "__main__":
    main()
