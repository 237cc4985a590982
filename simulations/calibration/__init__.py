"""The calibration study: predicted against measured loss."""
