"""The newest feature values, where a server finds them."""
