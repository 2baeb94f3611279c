"""LeNet: a convolutional network for 28 x 28 images."""

from .model import LeNet as LeNet
