"""The pure half of xzpipe: no IO, no event loop, no clock, no randomness, no logging."""
