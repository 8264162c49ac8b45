"""The bundled demonstration: a calculator server on the standard library alone."""
