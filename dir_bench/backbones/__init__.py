"""Networks from inputs to features; the regressor that reads the features is a module apart."""
