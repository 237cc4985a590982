"""Networks and images: load, describe, evaluate and train them, and see their layers as rows of weights."""
