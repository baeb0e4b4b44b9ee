"""Logins at a real identity provider: a Keycloak, in a realm of the tests' own."""
