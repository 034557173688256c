"""Anti-aliasing trained weights without training: closed-form repair behind inserted blurs."""
