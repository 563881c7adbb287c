"""What decides and what touches the world; `actors` gives it an address, `serve_app` a URL."""

__version__ = "0.1.0"
