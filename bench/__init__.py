"""What a request costs: a mock upstream, a load generator, yardsticks and peers."""
