"""The stories that `escarcelle demo` plays against a running server, one for each flow."""
