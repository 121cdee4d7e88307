"""The one trainer: it knows no dataset, backbone or method by name."""
