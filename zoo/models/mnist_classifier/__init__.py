"""MnistClassifier: a perceptron over flattened 28 x 28 images."""

from .model import MnistClassifier as MnistClassifier
