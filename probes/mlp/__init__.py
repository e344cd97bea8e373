"""The [256, 128] multi-layer perceptron of Table 1, several of them trained at once."""
