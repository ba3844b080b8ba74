"""Networks with weights of this project; they depend on torch only."""
