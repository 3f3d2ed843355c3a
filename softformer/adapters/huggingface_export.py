"""``python -m softformer.adapters.huggingface_export``, now `softformer.adapters.huggingface.export`."""

from softformer.adapters.huggingface.export import main

if __name__ == "__main__":
    main()
