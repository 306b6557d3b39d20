"""What every benchmark here shares: allocator, clock, memory, and what it ran on."""
