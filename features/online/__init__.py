"""Online store: the newest feature values, where a server finds them."""
