"""What `whole_process` runs besides our own command: an API of a known size, and peers in environments of their own."""
