"""Networks in plain torch: no training framework, no other library's conventions beyond timm's method names."""
