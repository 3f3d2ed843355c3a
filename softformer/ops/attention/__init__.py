"""The bidirectional operator: softmax-free attention with low-rank Gaussian kernels."""
