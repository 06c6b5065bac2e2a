"""The demo: a small application, and what l7fp makes of its policies."""
