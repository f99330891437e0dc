"""The rim: sockets, HTTP and ASGI on one side, the pipeline on the other."""
