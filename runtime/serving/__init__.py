"""Pictures of many askers at once, and their faces: the side of a server."""
