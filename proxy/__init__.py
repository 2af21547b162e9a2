"""visiongate: the front door for vision-model APIs."""

__version__ = "0.1.0"
