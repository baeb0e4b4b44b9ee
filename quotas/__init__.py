"""The engine: it decides and remembers who may use what. It knows no door (hub, batch, portal) and no framework."""
