"""The nouns of the platform. Imports no infrastructure."""
