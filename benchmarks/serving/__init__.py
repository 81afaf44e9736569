"""The runtime behind a server, beside the same work in process."""
