"""What the examples of the book run against, and what runs them."""
