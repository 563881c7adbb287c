"""What gives `cluster` an address: Ray actors, and the commands that start them."""
