"""TiedAutoencoder: the decoder's weight is a transposed view of the encoder's weight."""

from .model import TiedAutoencoder as TiedAutoencoder
