"""``python -m softformer``, the same as ``softformer``."""

from tasks.cli import main

if __name__ == "__main__":
    main()
