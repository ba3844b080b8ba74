"""Networks with weights of their own; they know torch and nothing else of the engine."""
