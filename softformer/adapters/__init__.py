"""The networks of `softformer.models` under the conventions of other libraries."""
