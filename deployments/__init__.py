"""Turns decisions into Ray Serve applications, actors, the HTTP gateway and the `guildhall` command."""
