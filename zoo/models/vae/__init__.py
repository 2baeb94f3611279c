"""VAE: a variational autoencoder, whose code is a place in a plane."""

from .model import VAE as VAE
