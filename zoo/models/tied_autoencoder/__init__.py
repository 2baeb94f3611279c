"""TiedAutoencoder: the decoder's weight is the transpose of the encoder's, the same memory seen the other way."""

from .model import TiedAutoencoder as TiedAutoencoder
