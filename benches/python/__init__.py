"""What a request costs in Python, beside other clients."""
