"""The seed inputs, by what the target reads. Each function returns the inputs of its folder, by name."""
