"""The fused kernels for CUDA devices."""
