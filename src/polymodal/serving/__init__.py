"""A service that answers requests over HTTP with trained models. `serving.service.serve` starts it."""
