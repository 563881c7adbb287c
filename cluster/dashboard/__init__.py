"""The dashboard: pages for people, at `/` of the Serve application."""
